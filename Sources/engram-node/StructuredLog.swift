import EngramConfig
import Foundation
import Logging
import Synchronization

/// Log lines on standard error: one line each, text for people or JSON for machines. Metadata carries codes,
/// counts and peers' names; never bodies, keys, tokens or what a client sent.
struct StructuredLog: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  private let label: String
  private let format: LogFormat

  init(label: String, level: LogLevel, format: LogFormat) {
    self.label = label
    self.format = format
    logLevel = Logger.Level(rawValue: level.rawValue) ?? .info
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
    let time = Date.now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    let line =
      switch format {
      case .text:
        "\(time) \(event.level.rawValue) \(label): \(event.message)"
          + fields.map { " \($0.key)=\(Self.oneLine("\($0.value)"))" }.joined()
      case .json:
        "{"
          + ([
            ("time", time), ("level", event.level.rawValue), ("logger", label),
            ("message", "\(event.message)"),
          ]
          + fields.map { ($0.key, "\($0.value)") })
          .map { "\(Self.quoted($0.0)):\(Self.quoted($0.1))" }.joined(separator: ",") + "}"
      }
    Self.output.withLock { $0.write(Data((line + "\n").utf8)) }
  }

  // One writer at a time keeps lines whole.
  private static let output = Mutex(FileHandle.standardError)

  private static func oneLine(_ value: String) -> String {
    value.contains(where: { $0.isWhitespace || $0 == "\"" }) ? quoted(value) : value
  }

  private static func quoted(_ value: String) -> String {
    guard let data = try? JSONEncoder().encode(value) else { return "\"\"" }
    return String(decoding: data, as: UTF8.self)
  }
}
