import ArgumentParser
import Foundation
import NIOCore
import NIOPosix

@main
struct EngramBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engram-bench",
    abstract: "Measure engram-node: throughput, latency, CPU per message, memory.",
    discussion: """
      Starts fresh engram-node processes for every run, talks to them like clients do (TLS 1.3, the \
      public API), \
      and prints medians with the extremes of all runs as Markdown tables. The sender's envelopes are \
      sealed before the clock runs, except in end-to-end.

        engram-bench                                  every scenario, about fifteen minutes
        engram-bench one-node two-nodes --runs 5
        engram-bench latency --rate 100 --rate 2000
        engram-bench --json now.json --peers peers.jsonl

      Scenarios: \(Scenario.allCases.map(\.rawValue).joined(separator: ", ")).
      """)

  @Argument(help: "What to measure; everything when left out.")
  var scenarios: [Scenario] = Scenario.allCases

  @Option(help: "Runs of each scenario; the median is reported.") var runs = 3
  @Option(help: "Seconds that are measured in each run.") var duration = 4.0
  @Option(help: "Seconds of traffic before that.") var warmup = 1.0
  @Option(help: "Bytes of each message's body.") var body = 1_024
  @Option(help: "Envelopes sealed beforehand; a run ends early when they are used up.") var pool = 90_000
  @Option(help: "Envelopes in one realtime frame or POST.") var batch = 32
  @Option(help: "Messages not yet answered, one node.") var window = 2_048
  @Option(help: "Messages not yet delivered, two nodes and end to end.") var federationWindow = 4_096
  @Option(help: "Realtime connections of the sender.") var connections = 2
  @Option(help: "Rates of the latency runs in msg/s, instead of 100 and half of the measured peak.")
  var rate: [Double] = []
  @Flag(help: "The recipient acknowledges in the latency runs too.") var acknowledge = false
  @Option(help: "Consumers of one mailbox, instead of 1, 10 and 50.") var consumers: [Int] = []
  @Option(help: "Messages that wait in the depth runs, instead of 10000 and 100000.") var depth: [Int] = []
  @Option(help: "Messages that expire in the same millisecond.") var expiring = 100_000
  @Option(help: "Subscribers of the topic, half of them on each node.") var subscribers = 100
  @Option(help: "Agents that are connected and active.") var agents = 1_000
  @Option(help: "Idle connections.") var idleConnections = 1_000
  @Option(help: "Seconds from the last connection to the sample of memory.") var idleSettle = 3.0

  @Option(help: "The engram-node to measure; the one beside this program when left out.", completion: .file())
  var node: String?
  @Option(
    help: "Where nodes keep their data while they run; it should be a real disk.", completion: .directory)
  var dir = ".build/bench-data"
  @Flag(help: "Leave the nodes' data and logs behind.") var keep = false
  @Option(help: "Also write everything as JSON.", completion: .file()) var json: String?
  @Option(
    help: "Figures of the peers (JSON lines of Benchmarks/peers/run) to compare with.", completion: .file())
  var peers: String?

  func validate() throws {
    guard runs > 0, duration > 0, warmup >= 0, body >= 8, batch > 0, batch <= 1_000, connections > 0 else {
      throw ValidationError("a count, a time or a size is out of range")
    }
    guard window >= batch, federationWindow >= batch, pool >= batch else {
      throw ValidationError("a batch does not fit into the window or the pool")
    }
  }

  func run() async throws {
    // Each idle connection takes a descriptor here and one in the node, which inherits the limit.
    raiseDescriptorLimit()
    Children.endWithSignals()
    defer { Children.endAll() }
    let options = try benchOptions()
    var report = Report(
      machine: MachineFacts(directory: options.directory),
      command: CommandLine.arguments.dropFirst().map { $0 })
    print(report.machine.text)
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let laboratory = Laboratory(command: self, options: options, group: group)
    do {
      for scenario in scenarios {
        report.results += try await laboratory.measure(scenario, after: report.results)
      }
    } catch {
      FileHandle.standardError.write(Data("engram-bench: \(error)\n".utf8))
      throw ExitCode.failure
    }
    try await group.shutdownGracefully()
    if let peers { report.peers = try PeerFigures.read(peers) }
    print(report.markdown)
    if let json { try report.write(to: json) }
  }

  private func benchOptions() throws -> BenchOptions {
    let beside = URL(fileURLWithPath: ProcessInfo.processInfo.arguments[0])
    let executable =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? beside.path
    let folder = (executable as NSString).deletingLastPathComponent
    let binary = node ?? (folder as NSString).appendingPathComponent("engram-node")
    guard FileManager.default.isExecutableFile(atPath: binary) else {
      throw ValidationError(
        "there is no \(binary); build it with: swift build -c release --product engram-node")
    }
    let directory = URL(fileURLWithPath: dir).path
    guard !FileManager.default.fileExists(atPath: "\(directory)/acme.example") else {
      throw ValidationError("\(directory) holds nodes already; remove it first")
    }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    return BenchOptions(
      nodeBinary: binary, directory: directory, keep: keep, runs: runs, duration: duration, warmup: warmup,
      idleSettle: idleSettle, bodyBytes: body, poolCount: pool, batch: batch, connections: connections,
      acknowledging: acknowledge)
  }
}

enum Scenario: String, CaseIterable, ExpressibleByArgument {
  case primitives
  case oneNode = "one-node"
  case oneNodePost = "one-node-post"
  case oneNodeAcknowledged = "one-node-acknowledged"
  case twoNodes = "two-nodes"
  case twoNodesAcknowledged = "two-nodes-acknowledged"
  case endToEnd = "end-to-end"
  case sdk
  case latency
  case idle
  case consumers
  case notification
  case agents
  case depth
  case expiry
  case topics
}

private func raiseDescriptorLimit() {
  var limit = rlimit()
  let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
  guard getrlimit(resource, &limit) == 0 else { return }
  limit.rlim_cur = min(limit.rlim_max, 65_536)
  setrlimit(resource, &limit)
}
