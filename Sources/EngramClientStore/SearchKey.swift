internal import EngramCore
internal import EngramCrypto

/// Turns words and facts into what the full-text index holds: `T(label, text; search key)[0..<8]` in base32,
/// where the search key is `T("storage/search"; key = storage key)`.
///
/// Whoever reads the database without the key learns that two messages share a word, not which one. Words
/// stand once per message and in the order of their hashes, so counts and positions are not kept.
final class SearchKey: Sendable {
  private let key: SecretBytes
  /// 2^64 values: chance finds are checked against the opened text where it matters, and never there.
  private static let bytes = 8

  init(storageKey: borrowing SecretBytes) {
    key = storageKey.withUnsafeBytes { Transcript("storage/search", key: $0) }.finishSecret()
  }

  func word(_ word: String) -> String { token("search/word", word) }
  /// A stem that is not itself the word; apart from words, so that an exact search does not meet it.
  func stem(_ stem: String) -> String { token("search/stem", stem) }
  func recipient(_ address: Address) -> String { token("search/to", address.text) }
  func label(_ key: String) -> String { token("search/label", key) }
  func label(_ key: String, _ value: String) -> String { token("search/label-value", key, value) }

  private func token(_ label: StaticString, _ parts: String...) -> String {
    let transcript = key.withUnsafeBytes { Transcript(label, key: $0) }
    for part in parts { transcript.absorb(part) }
    return base32Encode(Array(transcript.finish().prefix(Self.bytes)))
  }
}

/// What somebody looks for in bodies: every word, and every phrase in its order.
package struct TextQuery: Sendable, Equatable {
  /// Words of phrases are among them.
  package let words: [String]
  /// Of two words and more.
  package let phrases: [[String]]
  /// Meet other forms of the same English word.
  package let stems: Bool

  /// `deploy "build failed"`: words anywhere, quoted ones side by side.
  /// - Returns: nil when no word is in it, or more than `wordsMax`.
  package init?(_ text: String, stems: Bool = true) {
    var words: [String] = []
    var phrases: [[String]] = []
    func add(_ part: Substring, isQuoted: Bool) {
      let found = Words.split(String(part))
      words += found.filter { !words.contains($0) }
      if found.count > 1, isQuoted { phrases.append(found) }
    }
    for (index, part) in text.split(separator: "\"", omittingEmptySubsequences: false).enumerated() {
      if index.isMultiple(of: 2) {
        for piece in part.split(whereSeparator: \.isWhitespace) {
          add(piece, isQuoted: Words.isUnseparated(String(piece)))
        }
      } else {
        add(part, isQuoted: true)
      }
    }
    guard !words.isEmpty, words.count <= Self.wordsMax else { return nil }
    (self.words, self.phrases, self.stems) = (words, phrases, stems)
  }

  /// Each word costs the index one look-up; nobody types more.
  package static let wordsMax = 64

  /// The expression for the `words` column of the index.
  func match(_ key: SearchKey) -> String {
    words.map { word in
      guard stems else { return "\"\(key.word(word))\"" }
      let stem = Words.stem(word)
      return "(\"\(key.word(stem))\" OR \"\(key.stem(stem))\")"
    }.joined(separator: " AND ")
  }

  /// Whether every phrase stands in a text; words were found by the index.
  package func accepts(_ text: String) -> Bool {
    guard !phrases.isEmpty else { return true }
    let form: (String) -> String = stems ? Words.stem : { $0 }
    let words = Words.split(text).map(form)
    return phrases.allSatisfy { phrase in
      let phrase = phrase.map(form)
      return words.indices.contains { start in
        words[start...].starts(with: phrase)
      }
    }
  }
}

/// The tokens of one message, each once.
func indexTokens(of text: String, key: SearchKey) -> String {
  var tokens: Set<String> = []
  var seen: Set<String> = []
  for word in Words.split(text) where seen.insert(word).inserted {
    tokens.insert(key.word(word))
    let stem = Words.stem(word)
    if stem != word { tokens.insert(key.stem(stem)) }
    guard seen.count < HistoryLimits.indexedWordsMax else { break }
  }
  return tokens.sorted().joined(separator: " ")
}
