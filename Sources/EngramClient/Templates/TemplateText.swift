/// The tags of a Mustache text, found and judged before the renderer sees it: what a template may do has to be
/// known from its declaration.
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
    var out = ""
    var names: Set<String> = []
    var open: [String] = []
    var rest = source[...]
    while let start = rest.range(of: "{{") {
      out += rest[..<start.lowerBound]
      let (tag, after) = try Self.tag(at: start.lowerBound, in: rest)
      rest = after
      switch tag {
      case .comment: continue
      case .variable(let name):
        try Self.check(name, parameters, isInSection: !open.isEmpty)
        names.insert(name)
        out += "{{&\(name)}}"
      case .section(let name, let isInverted):
        try Self.check(name, parameters, isInSection: !open.isEmpty)
        names.insert(name)
        open.append(name)
        out += "{{\(isInverted ? "^" : "#")\(name)}}"
      case .end(let name):
        guard open.popLast() == name else { throw .unbalanced }
        out += "{{/\(name)}}"
      }
    }
    guard open.isEmpty else { throw .unbalanced }
    mustache = out + rest
    self.names = names.subtracting(["."])
  }

  private enum Tag {
    case variable(String)
    case section(String, isInverted: Bool)
    case end(String)
    case comment
  }

  private static func tag(
    at start: String.Index, in text: Substring
  ) throws(Problem) -> (Tag, Substring) {
    let isTriple = text[start...].hasPrefix("{{{")
    let inside = text[text.index(start, offsetBy: isTriple ? 3 : 2)...]
    guard let end = inside.range(of: isTriple ? "}}}" : "}}") else { throw .unbalanced }
    let content = inside[..<end.lowerBound]
    let after = inside[end.upperBound...]
    if isTriple { return (.variable(trimmed(content)), after) }
    guard let sigil = content.first else { throw .unbalanced }
    let name = trimmed(content.dropFirst())
    switch sigil {
    case "!": return (.comment, after)
    case "&": return (.variable(name), after)
    case "#": return (.section(name, isInverted: false), after)
    case "^": return (.section(name, isInverted: true), after)
    case "/": return (.end(name), after)
    case ">", "<", "$", "%", "=", "*": throw .notSupported
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

  private static func trimmed(_ text: Substring) -> String {
    var text = text
    while text.first?.isWhitespace == true { text = text.dropFirst() }
    while text.last?.isWhitespace == true { text = text.dropLast() }
    return String(text)
  }
}
