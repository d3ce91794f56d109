internal import EngramClientStore
internal import EngramCore

/// Something that happened in a watched spool.
public enum SpoolEvent: Sendable {
  /// A file of `pending` was looked at; only the first time, and whenever its outcome changes.
  case outgoing(SpoolFileReport)
  /// A message of ours changed its state, and its file moved.
  case moved(file: String, to: SpoolState)
  /// A message for us was written to `delivered`.
  case arrived(file: String, from: String)
  /// Its file was moved to `processed`: it is acknowledged.
  case acknowledged(file: String)
  /// The node or the disk stood in the way; it is tried again.
  case trouble(EngramError)
}

extension EngramClient {
  /// Keeps a spool as a live interface for tools that only know files, until the task is cancelled.
  ///
  /// - A file that appears in `pending` is sent; it moves to `delivered`, `processed` or `expired` as its
  ///   message does.
  /// - A message for this device appears in `delivered`. Whoever moves its file to `processed` acknowledges
  ///   it.
  ///
  /// Everything is derived from the folders and the home's own store, so it may be stopped at any moment.
  /// - Parameter intervalMs: how long after the last look the folders and the node are looked at again. A
  ///   file that is put into a folder is seen at once, where the system tells us of it.
  /// - Throws: `EngramError` when the folder cannot be used.
  public func watchSpool(
    _ path: String, intervalMs: Int = 1_000, report: @escaping @Sendable (SpoolEvent) -> Void
  ) async throws {
    try await watchSpool(path, intervalMs: intervalMs, listens: true, report: report)
  }

  /// - Parameter listens: false does without the system's notifications, as where there are none.
  func watchSpool(
    _ path: String, intervalMs: Int, listens: Bool, report: @escaping @Sendable (SpoolEvent) -> Void
  ) async throws {
    let folder = try SpoolFolder(path, creates: true)
    var watch = SpoolWatch(client: self, folder: folder, report: report)
    // However often it rings during a round, one more round sees everything.
    let (rings, line) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    let bell = listens ? SpoolBell(folder) { line.yield() } : nil
    var sweep = Task {}
    line.yield()
    for await _ in rings {
      sweep.cancel()
      await watch.round()
      sweep = Task {
        do { try await Task.sleep(for: .milliseconds(max(intervalMs, 10))) } catch { return }
        line.yield()
      }
    }
    sweep.cancel()
    withExtendedLifetime(bell) {}
  }
}

/// What a watch remembers between its rounds; all of it can be found out again.
struct SpoolWatch {
  private let client: EngramClient
  private let folder: SpoolFolder
  private let report: @Sendable (SpoolEvent) -> Void
  /// Received and not acknowledged: file name to envelope.
  private var open: [String: String] = [:]
  /// Received, and not in a file yet.
  private var unwritten: [ReceivedMessage] = []
  /// What was last said about a file of `pending`.
  private var said: [String: SpoolFileReport.Outcome] = [:]

  init(client: EngramClient, folder: SpoolFolder, report: @escaping @Sendable (SpoolEvent) -> Void) {
    (self.client, self.folder, self.report) = (client, folder, report)
  }

  mutating func round() async {
    await attempt { watch in try await watch.sendPending() }
    await attempt { watch in try await watch.fetch() }
    await attempt { watch in try await watch.follow() }
    await attempt { watch in try await watch.acknowledge() }
  }

  private mutating func attempt(_ step: (inout SpoolWatch) async throws -> Void) async {
    do { try await step(&self) } catch is CancellationError {
    } catch let problem as SpoolProblem {
      report(.trouble(EngramError(.local, name: problem.name, problem.message)))
    } catch { report(.trouble(EngramError(error))) }
  }

  private mutating func sendPending() async throws {
    let reports = Reports()
    _ = try await SpoolImport(client: client, folder: folder, keepsFiles: true).run { reports.add($0) }
    var now: [String: SpoolFileReport.Outcome] = [:]
    for entry in reports.all {
      let file = entry.file ?? ""
      now[file] = entry.outcome
      // One that was sent in an earlier round only waits for its receipts.
      if said[file] == entry.outcome || entry.outcome == .alreadySent { continue }
      report(.outgoing(entry))
    }
    said = now
  }

  /// Messages for us. What cannot be written now is written in a later round, or after the next start.
  private mutating func fetch() async throws {
    if unwritten.isEmpty { unwritten = try await client.receive(max: SpoolLimits.batchMax, waitSeconds: 0) }
    while let message = unwritten.first {
      try place(message)
      unwritten.removeFirst()
    }
  }

  private mutating func place(_ message: ReceivedMessage) throws(SpoolProblem) {
    guard let id = SpoolDocument.identifier(envelope: message.envelopeID),
      let priority = Priority(name: message.priority)
    else { return }
    var document = SpoolDocument(
      id: id, to: message.to, priority: priority, createdMs: message.createdMs,
      body: message.body)
    (document.direction, document.from) = (.incoming, message.from)
    (document.type, document.contentType) = (message.type, message.contentType)
    (document.thread, document.replyTo) = (message.thread, message.replyTo)
    document.expiresMs = message.expiresMs
    (document.labels, document.envelope) = (message.labels, message.envelopeID)
    document.state = DeliveryStatus.delivered.rawValue
    let file = document.name.text
    let isNew = !SpoolState.allCases.contains { folder.contains(file, in: $0.rawValue) }
    if isNew { try folder.write(document.encoded(), as: file, in: SpoolState.delivered.rawValue) }
    open[file] = message.envelopeID
    if isNew { report(.arrived(file: file, from: message.from)) }
  }

  private mutating func acknowledge() async throws {
    let done = open.filter { folder.contains($0.key, in: SpoolState.processed.rawValue) }
    guard !done.isEmpty else { return }
    let late = try await client.acknowledge(Array(done.values))
    for failure in late { report(.trouble(failure.error)) }
    for file in done.keys.sorted() {
      open[file] = nil
      report(.acknowledged(file: file))
    }
  }

  /// Moves the files of our own messages to where their messages are.
  private func follow() async throws {
    for current in [SpoolState.pending, .delivered] {
      for case let file? in try folder.names(in: current.rawValue) {
        guard open[file] == nil, let name = try? SpoolName(parsing: file),
          let (status, envelope) = try await client.sentStatus(name.id)
        else { continue }
        let target = SpoolState(status)
        guard target != current, target != .pending else { continue }
        try move(file, name, from: current, to: target, status, envelope)
        report(.moved(file: file, to: target))
      }
    }
  }

  /// The file says from now on what became of its message.
  private func move(
    _ file: String, _ name: SpoolName, from: SpoolState, to: SpoolState, _ status: DeliveryStatus,
    _ envelope: String?
  ) throws(SpoolProblem) {
    var document = try SpoolDocument(parsing: try folder.read(file, in: from.rawValue), name: name)
    guard document.direction == .outgoing else { return }
    (document.state, document.envelope) = (status.rawValue, envelope)
    try folder.write(document.encoded(), as: file, in: to.rawValue)
    try folder.remove(file, from: from.rawValue)
  }
}

/// Collects what a pass reports; on one task, one after the other.
private final class Reports: @unchecked Sendable {
  // @unchecked: filled by the pass that its owner awaits, read after it.
  private(set) var all: [SpoolFileReport] = []
  func add(_ report: SpoolFileReport) { all.append(report) }
}

extension EngramClient {
  /// Where a message of ours stands, nil when it was never sent from here.
  func sentStatus(_ id: MessageID) async throws -> (DeliveryStatus, envelope: String?)? {
    try await publicly {
      try await core.read { rows in
        guard let row = try rows.outbox(id) else {
          return try rows.queued(id) == nil ? nil : (.pending, nil)
        }
        let status: DeliveryStatus =
          row.state == .refused ? .failed : try rows.sentState(row.envelopeID) ?? .pending
        return (status, row.envelopeID.description)
      }
    }
  }
}
