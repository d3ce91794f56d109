import EngramCore
import Foundation
import TOMLKit

/// Takes the keys of one table, notes what is wrong with each, and goes on, so that all problems are found in
/// one reading. A value of the environment stands in for the one in the file.
///
/// It walks `TOMLTable` by hand: decoding through `Codable` reports a wrong type as a missing key.
struct TableReader {
  private let document: ConfigurationDocument
  /// Empty when the table is not in the file: every optional key then has its default.
  private let table: TOMLTable
  /// As in `SourceLines`: `node`, `peer[0]`.
  private let path: String
  /// The name in messages, without a position: the line says which one it is.
  private let label: String
  private let environment: [String: String]
  private(set) var problems: [ConfigurationProblem] = []

  init(_ document: ConfigurationDocument, table name: String, environment: [String: String]) {
    self.document = document
    self.environment = environment
    (path, label) = (name, name)
    let node = document.root[name]
    table = node?.table ?? TOMLTable()
    if let node, node.type != .table {
      problems.append(
        problem(
          nil, "must be a table, found \(Self.named(node.type))", hint: "write [\(name)] on a line of its own"
        ))
    }
  }

  /// One table of `[[name]]`. The environment has no say in these.
  init(_ document: ConfigurationDocument, element table: TOMLTable, of name: String, at position: Int) {
    self.document = document
    self.table = table
    environment = [:]
    (path, label) = ("\(name)[\(position)]", name)
  }

  // MARK: - Values

  /// The text of a key; nil when it is absent or, with a problem noted, when it is wrong.
  mutating func string(_ key: String, isRequired: Bool = false) -> String? {
    if let variable = environment[variable(key)] { return variable }
    guard let node = table[key] else {
      if isRequired { note(key, "is missing") }
      return nil
    }
    guard let text = node.string else {
      note(key, "must be a string, found \(Self.named(node.type))", hint: "put it in double quotes")
      return nil
    }
    return text
  }

  mutating func value<Value>(
    _ key: String, isRequired: Bool = false, expected: String, _ parse: (String) -> Value?
  ) -> Value? {
    guard let text = string(key, isRequired: isRequired) else { return nil }
    guard let value = parse(text) else {
      note(key, "must be \(expected)")
      return nil
    }
    return value
  }

  /// The key `name`, lower case as it has to be: another spelling is refused, never folded into this one.
  mutating func nodeName() -> NodeName? {
    value(
      "name", isRequired: true,
      expected: "a lower-case DNS name of at most \(Limits.nodeNameBytesMax) characters, such as acme.example"
    ) { try? NodeName($0) }
  }

  mutating func nodeID() -> NodeID? {
    value(
      "node_id", isRequired: true,
      expected: "engram-node: and 52 characters a-z2-7, as printed by engram-node peer-card"
    ) { try? NodeID(parsing: $0) }
  }

  mutating func choice<Choice: RawRepresentable & CaseIterable>(_ key: String, fallback: Choice) -> Choice
  where Choice.RawValue == String {
    let known = Choice.allCases.map(\.rawValue)
    guard let text = string(key) else { return fallback }
    guard let choice = Choice(rawValue: text) else {
      let suggestion = Suggestion.nearest(to: text.lowercased(), among: known)
      note(
        key, "must be one of \(known.joined(separator: ", "))",
        hint: suggestion.map { "did you mean \"\($0)\"?" })
      return fallback
    }
    return choice
  }

  /// An absolute path; a relative one starts at the folder of the file.
  mutating func path(_ key: String, isRequired: Bool = false) -> String? {
    guard let text = string(key, isRequired: isRequired) else { return nil }
    guard !text.isEmpty else {
      note(key, "must not be empty")
      return nil
    }
    return FilePaths.absolute(text, in: document.folder)
  }

  mutating func integer(_ key: Schema.IntegerKey) -> Int {
    let found: Int
    if let variable = environment[variable(key.name)] {
      guard let number = Int(variable) else {
        note(key.name, "must be an integer")
        return key.fallback
      }
      found = number
    } else if let node = table[key.name] {
      guard let number = node.int else {
        note(key.name, "must be an integer, found \(Self.named(node.type))")
        return key.fallback
      }
      found = number
    } else {
      return key.fallback
    }
    guard key.range.contains(found) else {
      note(
        key.name, "must be from \(key.range.lowerBound) to \(key.range.upperBound), found \(found)",
        hint: "left out, it is \(key.fallback)")
      return key.fallback
    }
    return found
  }

  mutating func boolean(_ key: String, fallback: Bool) -> Bool {
    guard let node = table[key] else { return fallback }
    guard let value = node.bool else {
      note(key, "must be true or false, found \(Self.named(node.type))")
      return fallback
    }
    return value
  }

  /// A list of strings, each parsed; empty when the key is absent. One that does not parse is noted.
  mutating func values<Value>(_ key: String, expected: String, _ parse: (String) -> Value?) -> [Value] {
    guard let node = table[key] else { return [] }
    guard let array = node.array else {
      note(key, "must be \(expected), found \(Self.named(node.type))")
      return []
    }
    let values = array.map { $0.string.flatMap(parse) }
    guard values.allSatisfy({ $0 != nil }) else {
      note(key, "must be \(expected)")
      return []
    }
    return values.compactMap { $0 }
  }

  // MARK: - Problems

  /// Notes every key of the table that is not among `known`.
  mutating func refuseUnknown(_ known: [String]) {
    for key in table.keys.sorted() where !known.contains(key) {
      let suggestion = Suggestion.nearest(to: key, among: known)
      note(
        key, "is not a key of this table",
        hint: suggestion.map { "did you mean \($0)?" } ?? "known here: \(known.joined(separator: ", "))")
    }
  }

  /// Notes that the first of two waits, which grow from the one to the other, is the longer one.
  mutating func refuse(_ lower: Schema.IntegerKey, above upper: Schema.IntegerKey) {
    note(
      lower.name, "must not be above \(upper.name)",
      hint: "left out, they are \(lower.fallback) and \(upper.fallback)")
  }

  mutating func note(_ key: String, _ message: String, hint: String? = nil) {
    if environment[variable(key)] != nil {
      problems.append(
        ConfigurationProblem(file: "environment", key: variable(key), message: message, hint: hint))
    } else {
      problems.append(problem(key, message, hint: hint))
    }
  }

  private func problem(_ key: String?, _ message: String, hint: String?) -> ConfigurationProblem {
    ConfigurationProblem(
      file: document.file, line: document.lines[key.map { "\(path).\($0)" } ?? path],
      key: key.map { "\(label).\($0)" } ?? label, message: message, hint: hint)
  }

  /// `ENGRAM_NODE_LISTEN` for `listen` of `[node]`.
  private func variable(_ key: String) -> String { "ENGRAM_\(label)_\(key)".uppercased() }

  private static func named(_ type: TOMLType) -> String {
    switch type {
    case .array, .int: "an \(type)"
    default: "a \(type)"
    }
  }
}

enum FilePaths {
  /// Resolves `.` and `..` without touching the disk: the file need not exist yet.
  static func absolute(_ path: String, in folder: String) -> String {
    let base = URL(fileURLWithPath: folder.isEmpty ? "." : folder, isDirectory: true)
    return URL(fileURLWithPath: path, relativeTo: base).standardizedFileURL.path
  }
}
