import Foundation

/// The targets of `Package.swift` and their arrows, read from its text (asking SwiftPM would start a second
/// build inside the test). Only the forms used there are understood; anything else is an error, not a gap.
struct PackageManifest {
  struct Target: Equatable {
    let name: String
    let path: String
    /// Names of targets and products as they are imported.
    let dependencies: Set<String>
    let isTest: Bool
  }

  struct Unreadable: Error, CustomStringConvertible {
    let description: String
  }

  let targets: [Target]

  init(_ text: String) throws {
    let text = Self.withoutComments(text)
    let products = Self.products(in: text)
    let pattern = try NSRegularExpression(
      pattern: #"(?<![A-Za-z])(module|tests|\.target|\.executableTarget|\.testTarget|\.systemLibrary)\("#)
    let whole = NSRange(text.startIndex..., in: text)
    targets = try pattern.matches(in: text, range: whole).compactMap { match in
      guard let call = Range(match.range, in: text), let kind = Range(match.range(at: 1), in: text) else {
        return nil
      }
      let arguments = try Self.arguments(in: text[call.upperBound...])
      return try Self.target(String(text[kind]), arguments, products)
    }
  }

  func target(named name: String) -> Target? { targets.first { $0.name == name } }

  /// The target whose folder holds `path`; the longest folder wins.
  func target(holding path: String) -> Target? {
    targets.filter { path.hasPrefix($0.path + "/") }.max { $0.path.count < $1.path.count }
  }

  /// Everything reachable from a target, products of other packages included (whose own arrows are not known
  /// here).
  func closure(of name: String) -> Set<String> {
    var reached: Set<String> = []
    var waiting = [name]
    while let next = waiting.popLast() {
      for dependency in target(named: next)?.dependencies ?? [] where reached.insert(dependency).inserted {
        waiting.append(dependency)
      }
    }
    return reached
  }

  // MARK: - Reading

  private static func withoutComments(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false)
      .filter { !$0.drop { $0 == " " }.hasPrefix("//") }
      .joined(separator: "\n")
  }

  /// `let nioCore = Target.Dependency.product(name: "NIOCore", …)` as `nioCore → NIOCore`.
  private static func products(in text: String) -> [String: String] {
    let form = #/let\s+(\w+)\s*=\s*Target\.Dependency\.product\(\s*name:\s*"([^"]+)"/#
    return Dictionary(
      text.matches(of: form).map { (String($0.1), String($0.2)) }, uniquingKeysWith: { first, _ in first })
  }

  /// Splits at the outermost commas, up to the parenthesis or bracket that closes the list.
  private static func arguments(in text: Substring) throws -> [String] {
    var arguments: [String] = []
    var current = ""
    var depth = 0
    for character in text {
      switch character {
      case "(", "[": depth += 1
      case ")", "]": depth -= 1
      default: break
      }
      if depth < 0 || (depth == 0 && character == ",") {
        let trimmed = current.trimmingCharacters(in: .whitespacesAndNewlines)
        if !trimmed.isEmpty { arguments.append(trimmed) }
        current = ""
        if depth < 0 { return arguments }
      } else {
        current.append(character)
      }
    }
    throw Unreadable(description: "Package.swift: a list is not closed")
  }

  private static func target(
    _ kind: String, _ arguments: [String], _ products: [String: String]
  ) throws -> Target? {
    // `func module(_ name: …)` and its like: declarations, not targets.
    if arguments.first?.hasPrefix("_ ") == true { return nil }
    var labelled: [String: String] = [:]
    for (position, argument) in arguments.enumerated() {
      if let match = argument.firstMatch(of: #/^(\w+):\s*/#) {
        labelled[String(match.1)] = String(argument[match.range.upperBound...])
      } else {
        labelled[position == 0 ? "name" : "dependencies"] = argument
      }
    }
    guard let name = labelled["name"].flatMap(literal) else { return nil }
    let list = labelled["dependencies"] ?? "[]"
    guard list.hasPrefix("["), list.hasSuffix("]") else {
      throw Unreadable(description: "Package.swift: the dependencies of \(name) are not one plain list")
    }
    let dependencies = try Self.arguments(in: list.dropFirst()).map { try dependency($0, products, of: name) }
    let isTest = kind == "tests" || kind == ".testTarget"
    let folder = kind == "tests" ? "Tests/" + name : "Sources/" + name
    return Target(
      name: kind == "tests" ? name + "Tests" : name, path: labelled["path"].flatMap(literal) ?? folder,
      dependencies: Set(dependencies), isTest: isTest)
  }

  private static func dependency(
    _ text: String, _ products: [String: String], of target: String
  ) throws -> String {
    if let name = literal(text) ?? products[text] { return name }
    if let match = text.firstMatch(of: #/^\.(?:product|target|byName)\(\s*name:\s*"([^"]+)"/#) {
      return String(match.1)
    }
    throw Unreadable(description: "Package.swift: cannot read the dependency \(text) of \(target)")
  }

  private static func literal(_ text: String) -> String? {
    text.wholeMatch(of: #/"([^"\\]*)"/#).map { String($0.1) }
  }
}
