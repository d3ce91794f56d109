import Foundation

/// Where and of what the figures are.
struct MachineFacts: Codable, Sendable {
  var processor: String
  var cores: Int
  var kernel: String
  var fileSystem: String
  var commit: String
  var date: String

  init(directory: String) {
    let model = readSmallFile("/proc/cpuinfo")?.split(separator: "\n").first { $0.hasPrefix("model name") }
    processor = model?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown"
    cores = ProcessInfo.processInfo.activeProcessorCount
    kernel =
      readSmallFile("/proc/sys/kernel/osrelease")?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
    fileSystem = Self.line("/usr/bin/stat", ["-f", "-c", "%T", directory])
    let revision = Self.line("/usr/bin/env", ["git", "rev-parse", "--short=12", "HEAD"])
    let isDirty = !Self.line("/usr/bin/env", ["git", "status", "--porcelain", "--", "Sources"]).isEmpty
    commit = revision + (isDirty ? " with changes" : "")
    date = Date.now.formatted(.iso8601)
  }

  private static func line(_ tool: String, _ arguments: [String]) -> String {
    let data = (try? Organisation.output(tool, arguments)) ?? Data()
    return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  var text: String {
    "\(processor), \(cores) cores, Linux \(kernel), data on \(fileSystem), commit \(commit), \(date)"
  }
}

/// Everything of one call of this program.
struct Report: Encodable {
  var machine: MachineFacts
  var command: [String]
  var results: [ScenarioResult] = []
  var peers: [ScenarioResult] = []

  func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try encoder.encode(self).write(to: URL(fileURLWithPath: path))
  }

  var markdown: String {
    var parts = (results + peers).filter { $0.medians["ed25519_verify_us"] != nil }.map(primitives)
    for table in ReportTable.all {
      let rows = (results + peers).filter { ReportTable.of($0.medians)?.title == table.title }
      if !rows.isEmpty { parts.append("\(table.title)\n\n\(self.table(table.columns, rows))") }
    }
    if !ratios.isEmpty { parts.append(ratios.joined(separator: "\n")) }
    return parts.map { "\n\($0)\n" }.joined()
  }

  /// Columns that no row fills are left out.
  private func table(_ columns: [ReportTable.Column], _ rows: [ScenarioResult]) -> String {
    let shown = columns.filter { column in rows.contains { !$0.text(column.figure, digits: 0).isEmpty } }
    let header = "| run | parameters | n | " + shown.map(\.title).joined(separator: " | ") + " |"
    let rule = "|---|---|---|" + String(repeating: "---|", count: shown.count)
    let lines = rows.map { row in
      let cells = shown.map { row.text($0.figure, digits: $0.digits) }
      return "| \(row.scenario) | \(row.parameters) | \(row.runs.count) | \(cells.joined(separator: " | ")) |"
    }
    return ([header, rule] + lines).joined(separator: "\n")
  }

  /// One line for each step.
  private func primitives(_ result: ScenarioResult) -> String {
    let lines = result.medians.keys.sorted().map { "| \($0) | \(result.text($0, digits: 1)) |" }
    return (["| step | µs |", "|---|---|"] + lines).joined(separator: "\n")
  }

  // MARK: - Against the peers

  private static let pairs = [
    ("one-node", "rabbitmq-quorum", "accepted_per_s"), ("two-nodes", "rabbitmq-shovel", "delivered_per_s"),
    ("1 consumer", "rabbitmq 1 consumer", "processed_per_s"),
    ("10 consumers", "rabbitmq 10 consumers", "processed_per_s"),
    ("50 consumers", "rabbitmq 50 consumers", "processed_per_s"),
    ("topic, 100 subscribers, two nodes", "rabbitmq topic, 100 queues", "delivered_per_s"),
  ]

  private var ratios: [String] {
    Self.pairs.compactMap { ours, theirs, figure in
      guard let our = results.first(where: { $0.scenario == ours })?.medians,
        let their = peers.first(where: { $0.scenario == theirs })?.medians, let a = our[figure],
        let b = their[figure], let aCost = our["cpu_nodes_us_per_msg"],
        let bCost = their["cpu_nodes_us_per_msg"]
      else { return nil }
      return "- \(ours) / \(theirs): \(decimal(a / b, 2)) times the messages, "
        + "\(decimal(aCost / bCost, 2)) times the CPU per message"
    }
  }
}

/// Lines of `Benchmarks/peers/run`: `{"scenario": …, "parameters": …, "figures": {…}}`, one for each run.
enum PeerFigures {
  private struct Line: Decodable {
    var scenario: String
    var parameters: String
    var figures: Figures
  }

  static func read(_ path: String) throws -> [ScenarioResult] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw BenchError("\(path) cannot be read")
    }
    let lines = try data.split(separator: UInt8(ascii: "\n")).map {
      try JSONDecoder().decode(Line.self, from: $0)
    }
    var names: [String] = []
    for line in lines where !names.contains(line.scenario) { names.append(line.scenario) }
    return names.map { name in
      let runs = lines.filter { $0.scenario == name }
      return ScenarioResult(name, runs.first?.parameters ?? "", runs: runs.map(\.figures))
    }
  }
}
