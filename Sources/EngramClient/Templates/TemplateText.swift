/// The tags of a Mustache text, found and judged before the renderer sees it: what a template may do has to
/// be known from its declaration.
struct TemplateText {
  enum Problem: Error, Equatable {
    /// A tag that is not closed, or a section that ends before it began.
    case unbalanced
    /// A partial, a parent, a block, a pragma, a change of delimiters or a transform.
    case notSupported
    /// A name that is no parameter.
    case undeclared(String)
  }

  /// The same text with every variable marked as not to be escaped: what comes out is what was put in, and
  /// whoever shows it as HTML escapes it there.
  let mustache: String
  /// Parameters that occur.
  let names: Set<String>

  init(_ source: String, parameters: Set<String>) throws(Problem) {
    // Bytes, not characters: a combining mark behind a brace must not hide the tag from us alone.
    var out: [UInt8] = []
    var names: Set<String> = []
    var open: [String] = []
    var rest = Array(source.utf8)[...]
    while let start = rest.firstRange(of: Self.opening) {
      out += rest[..<start.lowerBound]
      let (tag, after) = try Self.tag(rest[start.lowerBound...])
      rest = after
      switch tag {
      // Kept, since a comment that stands alone takes its line with it.
      case .comment: out += "{{! }}".utf8
      case .variable(let name):
        try Self.check(name, parameters, isInSection: !open.isEmpty)
        names.insert(name)
        out += "{{&\(name)}}".utf8
      case .section(let name, let isInverted):
        try Self.check(name, parameters, isInSection: !open.isEmpty)
        names.insert(name)
        open.append(name)
        out += "{{\(isInverted ? "^" : "#")\(name)}}".utf8
      case .end(let name):
        guard open.popLast() == name else { throw .unbalanced }
        out += "{{/\(name)}}".utf8
      }
    }
    guard open.isEmpty else { throw .unbalanced }
    mustache = String(decoding: out + rest, as: UTF8.self)
    self.names = names.subtracting(["."])
  }

  private enum Tag {
    case variable(String)
    case section(String, isInverted: Bool)
    case end(String)
    case comment
  }

  private static let opening = Array("{{".utf8)

  /// - Parameter text: begins with a tag.
  /// - Returns: it, and what follows it.
  private static func tag(_ text: ArraySlice<UInt8>) throws(Problem) -> (Tag, ArraySlice<UInt8>) {
    let isTriple = text.starts(with: "{{{".utf8)
    let inside = text.dropFirst(isTriple ? 3 : 2)
    guard let end = inside.firstRange(of: Array((isTriple ? "}}}" : "}}").utf8)) else { throw .unbalanced }
    let content = inside[..<end.lowerBound]
    let after = inside[end.upperBound...]
    if isTriple { return (.variable(trimmed(content)), after) }
    guard let sigil = content.first else { throw .unbalanced }
    let name = trimmed(content.dropFirst())
    switch sigil {
    case UInt8(ascii: "!"): return (.comment, after)
    case UInt8(ascii: "&"): return (.variable(name), after)
    case UInt8(ascii: "#"): return (.section(name, isInverted: false), after)
    case UInt8(ascii: "^"): return (.section(name, isInverted: true), after)
    case UInt8(ascii: "/"): return (.end(name), after)
    case _ where "><$%=*|".utf8.contains(sigil): throw .notSupported
    default: return (.variable(trimmed(content)), after)
    }
  }

  private static func check(
    _ name: String, _ parameters: Set<String>, isInSection: Bool
  ) throws(Problem) {
    if name == "." {
      // The member of the list whose section it is in.
      guard isInSection else { throw .undeclared(name) }
      return
    }
    guard parameters.contains(name) else { throw .undeclared(name) }
  }

  private static func trimmed(_ bytes: ArraySlice<UInt8>) -> String {
    func isSpace(_ byte: UInt8) -> Bool { [0x20, 0x09, 0x0A, 0x0D].contains(byte) }
    let end = bytes.lastIndex { !isSpace($0) }.map { $0 + 1 } ?? bytes.startIndex
    return String(decoding: bytes[..<end].drop(while: isSpace), as: UTF8.self)
  }
}
