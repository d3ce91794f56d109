/// Everything that is wrong with a configuration, so that an operator mends it in one go.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  /// Never empty; in the order of reading: the file as a whole, its tables, then the peers.
  package let problems: [ConfigurationProblem]

  package init(problems: [ConfigurationProblem]) {
    self.problems = problems
  }

  package var description: String {
    problems.map(\.description).joined(separator: "\n")
  }
}

/// One thing that is wrong. Names the key and what was expected; the value found there is repeated only where
/// it cannot be a secret, and no key of this configuration holds one.
package struct ConfigurationProblem: Equatable, Sendable, CustomStringConvertible {
  /// Path of the file as it was given, or `environment`.
  package let file: String
  /// Counted from 1, where it is known.
  package let line: Int?
  /// `table.key` as in the file, or the name of a variable; nil when the problem is the file as a whole.
  package let key: String?
  package let message: String
  /// What to do about it, when that can be said.
  package let hint: String?

  package init(file: String, line: Int? = nil, key: String? = nil, message: String, hint: String? = nil) {
    self.file = file
    self.line = line
    self.key = key
    self.message = message
    self.hint = hint
  }

  /// `file:line: key: message`
  package var sentence: String {
    let place = line.map { "\(file):\($0)" } ?? file
    return [place, key, message].compactMap { $0 }.joined(separator: ": ")
  }

  /// The sentence, then the hint on a line of its own.
  package var description: String {
    hint.map { "\(sentence)\nhint: \($0)" } ?? sentence
  }
}
