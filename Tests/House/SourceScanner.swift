/// Source text with code, comments and string literals told apart, so that a rule about code is not misled
/// by a brace in a comment, nor a rule about strings by an identifier.
struct ScannedSource {
  struct Literal: Equatable {
    let line: Int
    let text: String
  }

  /// The text with comments and the contents of literals blanked; line breaks stay where they were.
  let code: [UInt8]
  let literals: [Literal]
  /// Lines that hold at least a part of a comment.
  let commentLines: Set<Int>

  init(_ text: String, isC: Bool = false) {
    var scanner = SourceScanner(text, isC: isC)
    scanner.scanCode(insideInterpolation: false)
    (code, literals, commentLines) = (scanner.code, scanner.literals, scanner.commentLines)
  }
}

/// Walks the bytes once. Knows nested comments, raw, multi-line and interpolated strings of Swift, character
/// literals of C, and extended regex literals (`#/…/#`); bare regex literals it takes for code.
private struct SourceScanner {
  private let bytes: [UInt8]
  private let isC: Bool
  private var index = 0
  private var line = 1
  private(set) var code: [UInt8]
  private(set) var literals: [ScannedSource.Literal] = []
  private(set) var commentLines: Set<Int> = []

  init(_ text: String, isC: Bool) {
    bytes = Array(text.utf8)
    code = bytes.map { $0 == UInt8(ascii: "\n") ? $0 : UInt8(ascii: " ") }
    self.isC = isC
  }

  /// Up to the end of the text or, inside an interpolation, past its closing parenthesis.
  mutating func scanCode(insideInterpolation: Bool) {
    var depth = 0
    while index < bytes.count {
      if starts("//") {
        skipLineComment()
      } else if starts("/*") {
        skipBlockComment()
      } else if let hashes = hashesBefore(UInt8(ascii: "\"")) {
        scanString(hashes: hashes)
      } else if !isC, starts("#/") {
        skip(past: "/#")
      } else if isC, bytes[index] == UInt8(ascii: "'") {
        scanCharacter()
      } else {
        if bytes[index] == UInt8(ascii: "(") { depth += 1 }
        if bytes[index] == UInt8(ascii: ")") { depth -= 1 }
        code[index] = bytes[index]
        advance()
        if insideInterpolation && depth < 0 { return }
      }
    }
  }

  private mutating func scanString(hashes: Int) {
    let startLine = line
    advance(hashes)
    let isMultiline = !isC && starts("\"\"\"")
    let fence = String(repeating: "#", count: hashes)
    let closing = (isMultiline ? "\"\"\"" : "\"") + fence
    let escape = "\\" + fence
    advance(isMultiline ? 3 : 1)
    var content: [UInt8] = []
    while index < bytes.count, !starts(closing) {
      if !isMultiline, bytes[index] == UInt8(ascii: "\n") { break }
      if !isC, starts(escape + "(") {
        advance(escape.utf8.count + 1)
        scanCode(insideInterpolation: true)
      } else if starts(escape) {
        content += bytes[index..<min(index + escape.utf8.count + 1, bytes.count)]
        advance(escape.utf8.count + 1)
      } else {
        content.append(bytes[index])
        advance()
      }
    }
    if starts(closing) { advance(closing.utf8.count) }
    literals.append(.init(line: startLine, text: String(decoding: content, as: UTF8.self)))
  }

  private mutating func scanCharacter() {
    advance()
    while index < bytes.count, bytes[index] != UInt8(ascii: "'"), bytes[index] != UInt8(ascii: "\n") {
      advance(bytes[index] == UInt8(ascii: "\\") ? 2 : 1)
    }
    advance()
  }

  private mutating func skipLineComment() {
    commentLines.insert(line)
    while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { advance() }
  }

  private mutating func skipBlockComment() {
    var depth = 0
    repeat {
      commentLines.insert(line)
      if starts("/*"), depth == 0 || !isC {
        depth += 1
        advance(2)
      } else if starts("*/") {
        depth -= 1
        advance(2)
      } else {
        advance()
      }
    } while depth > 0 && index < bytes.count
  }

  private mutating func skip(past closing: String) {
    while index < bytes.count, !starts(closing) { advance() }
    advance(closing.utf8.count)
  }

  /// How many `#` stand before `byte` here, nil when it does not follow; C has no such strings.
  private func hashesBefore(_ byte: UInt8) -> Int? {
    var ahead = index
    while !isC, ahead < bytes.count, bytes[ahead] == UInt8(ascii: "#") { ahead += 1 }
    return ahead < bytes.count && bytes[ahead] == byte ? ahead - index : nil
  }

  private func starts(_ text: String) -> Bool {
    bytes[min(index, bytes.count)...].starts(with: text.utf8)
  }

  private mutating func advance(_ count: Int = 1) {
    for _ in 0..<count where index < bytes.count {
      if bytes[index] == UInt8(ascii: "\n") { line += 1 }
      index += 1
    }
  }
}
