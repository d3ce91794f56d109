internal import ArgumentParser
internal import EngramClient
internal import EngramCore
internal import Foundation

/// The body of a message and how it travels: the same words for `send` and `reply`.
struct MessageOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The body is this text.", valueName: "text"))
  var text: String?

  @Option(help: ArgumentHelp("The body is in this file.", valueName: "file"), completion: .file())
  var file: String?

  @Option(
    help: ArgumentHelp(
      "LOW, NORMAL, HIGH, URGENT, CRITICAL, or 1 to 5 (default: NORMAL).", valueName: "priority"),
    completion: .list(Priority.allCases.map(\.name)))
  var priority: String?

  @Option(help: ArgumentHelp("How long it may wait: 90s, 15m, 12h, 7d; at most 30d.", valueName: "time"))
  var ttl = TimeSpan(seconds: 7 * 24 * 3_600)

  @Option(
    help: ArgumentHelp(
      "Not to be delivered before: +90m, or 2026-12-01T09:00:00Z.", valueName: "when"))
  var notBefore: TimePoint?

  @Option(
    help: ArgumentHelp(
      "A label, visible to every node on the way; repeat it for more, at most 16.", valueName: "key=value"))
  var label: [KeyValue] = []

  @Option(
    help: ArgumentHelp(
      "MIME type of the body (default: text for --text, else octet-stream).", valueName: "type"))
  var contentType: String?

  @Flag(help: "Compress before sealing; only for bodies that hold nothing but your own text.")
  var compress = false

  func validate() throws {
    guard text == nil || file == nil else { throw ValidationError("--text and --file contradict each other") }
    let keys = Set(label.map(\.key))
    guard keys.count == label.count else { throw ValidationError("a label was given twice") }
    guard label.allSatisfy({ $0.value != nil }) else {
      throw ValidationError("--label has the form KEY=VALUE")
    }
  }

  /// Type of the body where none was given.
  var effectiveContentType: String {
    contentType ?? (file == nil ? "text/plain; charset=utf-8" : "application/octet-stream")
  }

  func sendOptions() -> SendOptions {
    var options = SendOptions()
    (options.ttlSeconds, options.compress) = (ttl.seconds, compress)
    if let priority { options.priority = priority }
    options.notBeforeMs = notBefore?.ms
    for label in label { options.labels[label.key] = label.value ?? "" }
    return options
  }

  func readBody() throws -> [UInt8] {
    if let text { return Array(text.utf8) }
    // One byte more than a body may have is enough to be refused; nothing larger is read into memory.
    let bytesMax = 10 << 20 + 1
    guard let file else {
      return [UInt8](try FileHandle.standardInput.read(upToCount: bytesMax) ?? Data())
    }
    return try readWhole(file, bytesMax: bytesMax, hint: "--file names the body")
  }
}

/// `key=value`, or `key` alone.
struct KeyValue: ExpressibleByArgument, Equatable {
  let key: String
  let value: String?

  init?(argument: String) {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard let key = parts.first, !key.isEmpty else { return nil }
    (self.key, value) = (String(key), parts.count == 2 ? String(parts[1]) : nil)
  }
}

/// A moment: `2026-12-01T09:00:00Z`, `+90m` from now, `7d` ago.
struct TimePoint: ExpressibleByArgument, Equatable {
  let ms: UInt64

  init?(argument: String) { self.init(argument, now: Date()) }

  init?(_ text: String, now: Date) {
    let nowMs = UInt64(max(now.timeIntervalSince1970, 0) * 1_000)
    if text.hasPrefix("+"), let span = TimeSpan(argument: String(text.dropFirst())) {
      ms = nowMs + span.seconds * 1_000
    } else if text.last.map({ "smhd".contains($0) }) == true, let span = TimeSpan(argument: text) {
      ms = nowMs - min(nowMs, span.seconds * 1_000)
    } else if let date = try? Date(text, strategy: .iso8601), date.timeIntervalSince1970 >= 0 {
      ms = UInt64(date.timeIntervalSince1970 * 1_000)
    } else {
      return nil
    }
  }
}
