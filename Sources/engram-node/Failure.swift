import ArgumentParser
import EngramConfig
import EngramCore
import Foundation

/// An error as a command line says it: lower case, no final stop, what to do on a line of its own.
struct Failure: Error, CustomStringConvertible {
  /// sysexits.h, the part that applies.
  enum Code: Int32 {
    case failed = 1
    case usage = 64
    case damaged = 65
    case unavailable = 69
    case cannotCreate = 73
    case ioError = 74
    case temporary = 75
    case notAllowed = 77
    case configuration = 78

    /// For programs that read the message as JSON.
    var name: String {
      switch self {
      case .failed: "failed"
      case .usage: "usage"
      case .damaged: "damaged"
      case .unavailable: "unavailable"
      case .cannotCreate: "cannot-create"
      case .ioError: "io-error"
      case .temporary: "temporary"
      case .notAllowed: "not-allowed"
      case .configuration: "configuration"
      }
    }
  }

  let code: Code
  let message: String
  var hint: String?
  /// The protocol's code, when it was the node that refused.
  var refusal: ErrorCode?

  init(_ code: Code, _ message: String, hint: String? = nil, refusal: ErrorCode? = nil) {
    (self.code, self.message, self.hint, self.refusal) = (code, message, hint, refusal)
  }

  init(_ error: ConfigurationError) {
    self.init(.configuration, "the configuration is wrong\n\(error.description)")
  }

  var description: String {
    message + (refusal.map { " [\($0.name)]" } ?? "") + (hint.map { "\nhint: \($0)" } ?? "")
  }
}

/// Runs a command's body and turns failures into a message on standard error and an exit code.
func reporting(_ body: () async throws -> Void) async throws {
  do { try await body() } catch let failure as Failure {
    report(failure)
    throw ExitCode(failure.code.rawValue)
  } catch let error as ConfigurationError {
    report(Failure(error))
    throw ExitCode(Failure.Code.configuration.rawValue)
  }
}

/// To standard error: text for people, or one JSON object when the command line asks for JSON.
func report(_ failure: Failure) {
  struct Form: Encodable {
    struct Fields: Encodable {
      var code: UInt16
      var name: String
      var message: String
      var hint: String?
      var exitCode: Int32
    }
    var error: Fields
  }
  guard wantsJSON else { return writeError("engram-node: \(failure)") }
  let encoder = wireEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  let fields = Form.Fields(
    code: (failure.refusal ?? .none).rawValue, name: failure.refusal?.name ?? failure.code.name,
    message: failure.message, hint: failure.hint, exitCode: failure.code.rawValue)
  if let data = try? encoder.encode(Form(error: fields)) { writeError(String(decoding: data, as: UTF8.self)) }
}

/// Looked up in the words themselves: a command line that cannot be parsed has no options yet.
let wantsJSON = CommandLine.arguments.dropFirst().prefix { $0 != "--" }.contains("--json")

func writeError(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// What a command did that answers with nothing: a sentence for people, or `{"done": …}`.
func say(_ sentence: String, done: String, json: Bool) {
  if json { return printJSON(["done": done]) }
  print(sentence)
}

/// Left-aligned columns under a header, for people; `--json` is for programs.
func printTable(_ header: [String], _ rows: [[String]]) {
  let all = [header] + rows
  let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
  for row in all {
    let cells = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
    var line = cells.joined(separator: "  ")
    while line.last == " " { line.removeLast() }
    print(line)
  }
}

/// `2026-11-21 13:05:09Z`
func timeText(_ milliseconds: UInt64) -> String {
  let style = Date.ISO8601FormatStyle(dateTimeSeparator: .space)
  return Date(timeIntervalSince1970: Double(milliseconds) / 1_000).formatted(style)
}

/// JSON between node and command line, and of peer cards: `snake_case` outside, `lowerCamelCase` in the code.
func wireDecoder() -> JSONDecoder {
  let decoder = JSONDecoder()
  decoder.keyDecodingStrategy = .convertFromSnakeCase
  return decoder
}

func wireEncoder() -> JSONEncoder {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  return encoder
}
