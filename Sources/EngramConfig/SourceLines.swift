/// Where each key stands in a TOML text. The parser keeps no positions, and an error without a line sends its
/// reader searching.
///
/// Paths are the parts of a key joined by dots, with the position of an array's table after it:
/// `node.name`, `peer[1].endpoint`. It is read leniently: a text that the parser refuses never gets here, and
/// a key that is not found only costs the line in a message.
struct SourceLines {
  private var lines: [String: Int] = [:]

  init(_ text: String) {
    var scanner = TOMLLineScanner(text)
    scanner.scan()
    lines = scanner.lines
  }

  /// The line of `path`, or of the nearest thing around it.
  subscript(path: String) -> Int? {
    var path = Substring(path)
    while true {
      if let line = lines[String(path)] { return line }
      guard let dot = path.lastIndex(of: ".") else { return nil }
      path = path[..<dot]
    }
  }
}

private struct TOMLLineScanner {
  private let characters: [Character]
  private var index = 0
  private var line = 1
  private var table = ""
  private var tableCounts: [String: Int] = [:]
  private(set) var lines: [String: Int] = [:]

  init(_ text: String) {
    // One character per line break, whichever way the file ends its lines.
    characters = text.map { $0 == "\r\n" ? "\n" : $0 }
  }

  mutating func scan() {
    while index < characters.count {
      skip { $0.isWhitespace }
      guard index < characters.count else { return }
      switch characters[index] {
      case "#": skip { $0 != "\n" }
      case "[": scanHeader()
      default: scanPair()
      }
    }
  }

  /// `[table]` or `[[array of tables]]`.
  private mutating func scanHeader() {
    let start = line
    let isArray = index + 1 < characters.count && characters[index + 1] == "["
    advance(isArray ? 2 : 1)
    let key = scanKey(until: "]")
    table = key
    if isArray {
      let position = tableCounts[key, default: 0]
      tableCounts[key] = position + 1
      table = "\(key)[\(position)]"
      record(key, start)
    }
    record(table, start)
    skip { $0 != "\n" }
  }

  private mutating func scanPair() {
    let start = line
    let key = scanKey(until: "=")
    record(table.isEmpty ? key : "\(table).\(key)", start)
    advance()
    skipValue()
  }

  private mutating func scanKey(until end: Character) -> String {
    var key = ""
    while index < characters.count, characters[index] != end, characters[index] != "\n" {
      if characters[index] == "\"" || characters[index] == "'" {
        let opening = index
        skipString()
        key.append(contentsOf: characters[opening..<index].dropFirst().dropLast())
      } else {
        if !characters[index].isWhitespace { key.append(characters[index]) }
        advance()
      }
    }
    return key
  }

  /// To the end of the line on which the value ends: an array or a string may span several.
  private mutating func skipValue() {
    var depth = 0
    while index < characters.count {
      switch characters[index] {
      case "\"", "'":
        skipString()
        continue
      case "#":
        skip { $0 != "\n" }
        continue
      case "[", "{": depth += 1
      case "]", "}": depth -= 1
      case "\n" where depth <= 0: return
      default: break
      }
      advance()
    }
  }

  private mutating func skipString() {
    let quote = characters[index]
    let length = holds(quote, times: 3) ? 3 : 1
    advance(length)
    while index < characters.count {
      if holds(quote, times: length) { return advance(length) }
      if length == 1, characters[index] == "\n" { return }
      advance(quote == "\"" && characters[index] == "\\" ? 2 : 1)
    }
  }

  private func holds(_ character: Character, times: Int) -> Bool {
    characters[index...].prefix(times).elementsEqual(repeatElement(character, count: times))
  }

  private mutating func record(_ path: String, _ line: Int) {
    if lines[path] == nil { lines[path] = line }
  }

  private mutating func skip(while condition: (Character) -> Bool) {
    while index < characters.count, condition(characters[index]) { advance() }
  }

  private mutating func advance(_ count: Int = 1) {
    for _ in 0..<count where index < characters.count {
      if characters[index] == "\n" { line += 1 }
      index += 1
    }
  }
}
