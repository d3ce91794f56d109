internal import FoundationEssentials

// Foundation's decoder keeps one of two values under the same key, and drops keys that nobody asks for, and
// says nothing of either. What people write by hand is refused instead: nothing is sent without something
// that it says.

/// The first key that stands twice in one object of a JSON text, at any depth. Keys are compared as the
/// decoder does: after their escapes, and by what they look like (canonical equivalence).
/// - Parameter json: UTF-8 that a decoder has taken.
func repeatedKey(_ json: [UInt8]) -> String? {
  /// Keys of the objects that are open; nil is a list.
  var open: [Set<String>?] = []
  var awaitsKey = false
  var index = json.startIndex
  while index < json.endIndex {
    let byte = json[index]
    switch byte {
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      awaitsKey = byte == UInt8(ascii: "{")
      open.append(awaitsKey ? [] : nil)
    case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = open.popLast()
    case UInt8(ascii: ","): awaitsKey = if case .some(.some) = open.last { true } else { false }
    case UInt8(ascii: "\""):
      let end = endOfString(json, from: index)
      if awaitsKey, !open.isEmpty {
        let key = decodedString(json[index..<end])
        if open[open.count - 1]?.insert(key).inserted == false { return key }
        awaitsKey = false
      }
      index = end
      continue
    default: break
    }
    index += 1
  }
  return nil
}

/// - Parameter start: where the opening quotation mark stands.
/// - Returns: what follows the closing one.
private func endOfString(_ json: [UInt8], from start: Int) -> Int {
  var index = start + 1
  let (quote, escape) = (UInt8(ascii: "\""), UInt8(ascii: "\\"))
  while let found = json[index...].firstIndex(where: { $0 == quote || $0 == escape }) {
    if json[found] == quote { return found + 1 }
    index = min(found + 2, json.endIndex)
  }
  return json.endIndex
}

/// - Parameter literal: with its quotation marks.
private func decodedString(_ literal: ArraySlice<UInt8>) -> String {
  let decoded =
    literal.contains(UInt8(ascii: "\\")) ? try? JSONDecoder().decode(String.self, from: Data(literal)) : nil
  return decoded ?? String(decoding: literal.dropFirst().dropLast(), as: UTF8.self)
}

extension Decoder {
  /// The first key, by name, that is none of these.
  func unknownKey<Key: CodingKey & CaseIterable>(beyond known: Key.Type) throws -> String? {
    let known = Set(Key.allCases.map(\.stringValue))
    return try container(keyedBy: AnyKey.self).allKeys.map(\.stringValue).filter { !known.contains($0) }.min()
  }
}

private struct AnyKey: CodingKey {
  var stringValue: String
  var intValue: Int? { nil }
  init(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

/// A key as a file gives it, safe for a terminal.
func shownKey(_ key: String) -> String {
  let unsafe: [Unicode.GeneralCategory] = [.control, .format, .lineSeparator, .paragraphSeparator]
  return String(
    key.unicodeScalars.prefix(40).map {
      unsafe.contains($0.properties.generalCategory) ? "?" : Character($0)
    })
}
