import EngramCore
import EngramWire
import NIOCore

/// How long a message takes from its POST until it arrives at a connection that consumes, at a rate far below
/// what the nodes can do: one request for each message, one lease and one settlement.
struct PostRun {
  let stage: Stage
  let options: BenchOptions
  let loop: any EventLoop

  func run(rate: Double) async throws -> Figures {
    let warm = Int(rate * options.warmup)
    let count = warm + Int(rate * options.duration)
    var terms = Reissue.Terms()
    terms.bodyBytes = options.bodyBytes
    let issue = try Reissue(terms, from: stage.sender, to: [stage.recipient])
    let issued = IssuedFrames([issue], count: count, perFrame: 1)
    let book = issued.book(of: stage.recipient, from: stage.sender, numbers: Array(issued.numbers))
    let interval = UInt64(1e9 / rate)
    let start = monotonicNs() + 500_000_000
    var plan = WorkTraffic.Plan()
    plan.messages = count
    plan.due = (start, interval)
    plan.books = [book]
    let work = try await WorkLoop(plan, on: loop)
    let consumer = try await work.openConsumer(
      0, stage.destination, stage.recipient, stage.recipientSession, prefetch: 256)

    // A send frame without its type and request is the body of a POST.
    let bodies = issued.frames.map { Array($0.readableBytesView.dropFirst(9)) }
    let answers = Answers()
    async let paced = pace(count, startNs: start, intervalNs: interval) { [stage] position in
      Task { await answers.note(post(bodies[position], stage)) }
    }
    try await sleep(untilNs: start + UInt64(warm) * interval)
    let first = MachineSample(pids: stage.pids)
    _ = await paced
    let last = MachineSample(pids: stage.pids)
    try await work.wait("everything is delivered") { $0.counters.settled == count }
    try await work.check(0..<count, senders: [stage.sender], home: stage.home)
    guard await answers.good == count else {
      throw BenchError("\(await answers.good) of \(count) requests were accepted: \(await answers.problem)")
    }
    await consumer.close()

    var figures = costFigures(first, last, names: stage.names, messages: count - warm)
    figures.merge(latencyFigures(try await work.on { $0.deliveryMicros(warm..<count) })) { $1 }
    figures["sent_per_s"] = Double(count - warm) / (figures["seconds"] ?? .nan)
    return figures
  }

  private actor Answers {
    private(set) var good = 0
    private(set) var problem = ""
    func note(_ problem: String?) {
      if let problem { self.problem = problem } else { good += 1 }
    }
  }
}

/// - Returns: what went wrong.
private func post(_ body: [UInt8], _ stage: Stage) async -> String? {
  do {
    let response = try await stage.home.api.send(
      WireRequest(
        "POST", "/api/v1/agents/\(stage.sender.address.text)/messages",
        headers: [
          WireHeader("authorization", "Bearer \(stage.senderSession)"),
          WireHeader("content-type", "application/vnd.engram.envelopes"),
        ], body: body))
    guard response.status == 200, let outcome = try ItemOutcome.decode(response.body[...]).first else {
      return "status \(response.status)"
    }
    try SampleCheck.accepted(outcome.receipt, by: stage.home, from: [stage.sender])
    return nil
  } catch { return "\(error)" }
}
