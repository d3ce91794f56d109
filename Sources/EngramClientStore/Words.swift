internal import Foundation

/// Splits text into the words that search knows. Index and query go through the same functions, so all that
/// matters is that what people take for the same word comes out the same.
package enum Words {
  /// Longer runs are data (base64, hashes), not words.
  static let scalarsMax = 64

  /// The words of a text in their order, folded: compatibility forms decomposed (UAX #15, NFKD), marks
  /// dropped, lower case. `Über-Größe` is `uber`, `grosse`.
  ///
  /// A word is a run of letters, digits and spacing marks. Ideographs and kana are one word each, because
  /// nothing separates words there; a query of several is a phrase.
  package static func split(_ text: String) -> [String] {
    var words: [String] = []
    var word = ""
    var length = 0
    func end() {
      if length > 0, length <= scalarsMax { words.append(word) }
      (word, length) = ("", 0)
    }
    for scalar in text.decomposedStringWithCompatibilityMapping.unicodeScalars {
      if scalar.isASCII {
        guard let folded = foldASCII(scalar) else {
          end()
          continue
        }
        word.unicodeScalars.append(folded)
        length += 1
        continue
      }
      switch part(scalar) {
      case .boundary: end()
      case .dropped: break
      case .letter:
        word += fold(scalar)
        length += 1
      case .wordOfItsOwn:
        end()
        words.append(String(scalar))
      }
    }
    end()
    return words
  }

  /// Whether a query of these words has to match as a phrase: they stood together without anything between.
  package static func isUnseparated(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy { part($0) == .wordOfItsOwn || part($0) == .dropped }
  }

  private enum Part { case boundary, dropped, letter, wordOfItsOwn }

  private static func part(_ scalar: Unicode.Scalar) -> Part {
    if scalar.properties.isIdeographic || (0x3040...0x30ff).contains(scalar.value) { return .wordOfItsOwn }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber,
      .letterNumber, .otherNumber, .spacingMark:
      return .letter
    case .nonspacingMark, .enclosingMark, .format: return .dropped
    default: return .boundary
    }
  }

  private static func foldASCII(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
    switch scalar {
    case "a"..."z", "0"..."9": scalar
    case "A"..."Z": Unicode.Scalar(scalar.value + 32)
    default: nil
    }
  }

  /// Letters that have no decomposition, but that people type without their stroke or ligature.
  private static let plainForms: [Unicode.Scalar: String] = [
    "ß": "ss", "ς": "σ", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i",
  ]

  private static func fold(_ scalar: Unicode.Scalar) -> String {
    let lower = scalar.properties.lowercaseMapping
    guard let first = lower.unicodeScalars.first, let plain = plainForms[first] else { return lower }
    return plain
  }

  // MARK: Stems

  /// Steps 1a and 1b of Porter's stemmer (M. F. Porter, "An algorithm for suffix stripping", 1980): plurals,
  /// -ed and -ing of English words. Other words come back as they are.
  package static func stem(_ word: String) -> String {
    var letters = Array(word.utf8)
    guard letters.count > 3, letters.allSatisfy({ lowerCase.contains($0) }) else { return word }
    stripPlural(&letters)
    stripParticiple(&letters)
    return String(decoding: letters, as: UTF8.self)
  }

  private static let lowerCase = UInt8(ascii: "a")...UInt8(ascii: "z")

  /// Step 1a.
  private static func stripPlural(_ word: inout [UInt8]) {
    if word.ends(with: "sses") || word.ends(with: "ies") {
      word.removeLast(2)
    } else if word.ends(with: "s"), !word.ends(with: "ss"), !word.ends(with: "us") {
      word.removeLast()
    }
    // Step 1c, so that "policy" meets what is left of "policies".
    if word.last == UInt8(ascii: "y"), hasVowel(word.dropLast()) { word[word.count - 1] = UInt8(ascii: "i") }
  }

  /// Step 1b.
  private static func stripParticiple(_ word: inout [UInt8]) {
    if word.ends(with: "eed") { return }
    guard let suffix = ["ed", "ing"].first(where: { word.ends(with: $0) }),
      hasVowel(word.dropLast(suffix.utf8.count))
    else { return }
    word.removeLast(suffix.utf8.count)
    if ["at", "bl", "iz"].contains(where: { word.ends(with: $0) }) {
      word.append(UInt8(ascii: "e"))
    } else if word.count >= 2, word[word.count - 1] == word[word.count - 2], isConsonant(word, word.count - 1),
      !["l", "s", "z"].contains(where: { word.ends(with: $0) })
    {
      word.removeLast()
    }
  }

  private static func isConsonant(_ word: some RandomAccessCollection<UInt8>, _ index: Int) -> Bool {
    let letter = word[word.index(word.startIndex, offsetBy: index)]
    if "aeiou".utf8.contains(letter) { return false }
    guard letter == UInt8(ascii: "y") else { return true }
    return index == 0 || !isConsonant(word, index - 1)
  }

  private static func hasVowel(_ word: some RandomAccessCollection<UInt8>) -> Bool {
    (0..<word.count).contains { !isConsonant(word, $0) }
  }
}

extension [UInt8] {
  fileprivate func ends(with suffix: String) -> Bool {
    count >= suffix.utf8.count && self[(count - suffix.utf8.count)...].elementsEqual(suffix.utf8)
  }
}
