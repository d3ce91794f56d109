/// A function, initialiser or computed property with the lines it covers, its declaration included.
struct FunctionExtent: Equatable {
  let name: String
  let firstLine: Int
  let lastLine: Int

  var lineCount: Int { lastLine - firstLine + 1 }
}

/// Finds the bodies of functions by their braces. It needs no grammar: a declaration is a keyword, and its
/// body the first brace outside parentheses before anything that begins another declaration.
enum FunctionScan {
  struct Token {
    let text: String
    let line: Int
    let startsLine: Bool
  }

  static func swiftFunctions(in source: ScannedSource) -> [FunctionExtent] {
    let tokens = tokens(of: source.code)
    return tokens.indices.compactMap { index in
      let keyword = tokens[index].text
      guard functionKeywords.contains(keyword) || keyword == "var" else { return nil }
      guard index == 0 || ![".", "`"].contains(tokens[index - 1].text) else { return nil }
      let open =
        keyword == "var"
        ? propertyBody(in: tokens, after: index) : functionBody(in: tokens, after: index)
      guard let open, let close = closingBrace(in: tokens, from: open) else { return nil }
      let hasOwnName = keyword == "func" || keyword == "var"
      return FunctionExtent(
        name: hasOwnName ? tokens[index + 1].text : keyword, firstLine: tokens[index].line,
        lastLine: tokens[close].line)
    }
  }

  /// In C a body is a brace at the outermost level that follows a parameter list.
  static func cFunctions(in source: ScannedSource) -> [FunctionExtent] {
    let tokens = tokens(of: source.code)
    var extents: [FunctionExtent] = []
    var index = 0
    var statementStart = 0
    while index < tokens.count {
      let text = tokens[index].text
      if text == "{", let close = closingBrace(in: tokens, from: index) {
        if index > 0, tokens[index - 1].text == ")" {
          let name = tokens[statementStart..<index].prefix { $0.text != "(" }.last?.text ?? "?"
          extents.append(
            .init(name: name, firstLine: tokens[statementStart].line, lastLine: tokens[close].line))
        }
        index = close
        statementStart = close + 1
      } else if text == ";" {
        statementStart = index + 1
      }
      index += 1
    }
    return extents
  }

  private static let functionKeywords: Set<String> = ["func", "init", "deinit", "subscript"]

  private static let declarationStarts: Set<String> = [
    "@", "#", "associatedtype", "case", "class", "deinit", "enum", "extension", "fileprivate", "func",
    "import",
    "indirect", "init", "internal", "let", "mutating", "nonisolated", "nonmutating", "open", "override",
    "package", "private", "protocol", "public", "static", "struct", "subscript", "typealias", "var",
  ]

  /// The opening brace of a function's body, nil for a requirement of a protocol.
  private static func functionBody(in tokens: [Token], after start: Int) -> Int? {
    var depth = 0
    for index in tokens.indices.dropFirst(start + 1) {
      let token = tokens[index]
      if depth == 0, token.startsLine, declarationStarts.contains(token.text) { return nil }
      switch token.text {
      case "(", "[": depth += 1
      case ")", "]": depth -= 1
      case "{" where depth == 0: return index
      case "}" where depth == 0: return nil
      default: break
      }
      if depth < 0 { return nil }
    }
    return nil
  }

  /// The opening brace of a computed property's body, nil for a stored one.
  private static func propertyBody(in tokens: [Token], after start: Int) -> Int? {
    var depth = 0
    for index in tokens.indices.dropFirst(start + 1) {
      let token = tokens[index]
      switch token.text {
      case "(", "[": depth += 1
      case ")", "]": depth -= 1
      case "{" where depth == 0: return index
      case "=" where depth == 0, "}" where depth == 0: return nil
      default: if depth == 0, token.startsLine { return nil }
      }
      if depth < 0 { return nil }
    }
    return nil
  }

  private static func closingBrace(in tokens: [Token], from open: Int) -> Int? {
    var depth = 0
    for index in tokens.indices.dropFirst(open) {
      if tokens[index].text == "{" { depth += 1 }
      if tokens[index].text == "}" { depth -= 1 }
      if depth == 0 { return index }
    }
    return nil
  }

  /// Words, and every other visible character as a token of its own.
  private static func tokens(of code: [UInt8]) -> [Token] {
    var tokens: [Token] = []
    var line = 1
    var startsLine = true
    var index = 0
    while index < code.count {
      let byte = code[index]
      if byte == UInt8(ascii: "\n") {
        line += 1
        startsLine = true
        index += 1
      } else if byte <= UInt8(ascii: " ") {
        index += 1
      } else {
        let length = isWord(byte) ? code[index...].prefix(while: isWord).count : 1
        let text = String(decoding: code[index..<index + length], as: UTF8.self)
        tokens.append(Token(text: text, line: line, startsLine: startsLine))
        startsLine = false
        index += length
      }
    }
    return tokens
  }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), 0x80...:
      true
    default: false
    }
  }
}
