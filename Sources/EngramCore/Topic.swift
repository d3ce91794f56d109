/// A concrete topic: tokens of `[a-z0-9_-]`, at most 64 bytes each, joined by dots, at most 255 bytes:
/// `builds.linux.failed`. It is what messages are published under; what is subscribed to is a `TopicPattern`.
package struct Topic: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let text: String

  package init(_ text: String) throws(CodecError) {
    guard isTopic(text) else { throw .nonCanonical }
    self.text = text
  }

  package init(_ bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .nonCanonical }
    try self.init(text)
  }

  /// Everything up to the first dot, which is how subscriptions are indexed.
  package var head: String { String(text[..<(text.firstIndex(of: ".") ?? text.endIndex)]) }
  package var description: String { text }
  package static func < (a: Self, b: Self) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
}

/// What is subscribed to: a topic in which `*` may stand for any one token, and `>` at the end for one or
/// more (the grammar of NATS). `orders.*` matches `orders.new` and not `orders.new.eu`; `orders.>` matches
/// both, and not `orders`.
package struct TopicPattern: Hashable, Comparable, Sendable, CustomStringConvertible {
  package static let anyToken = "*"
  package static let anyRest = ">"

  package let text: String

  package init(_ text: String) throws(CodecError) {
    guard (1...Limits.topicBytesMax).contains(text.utf8.count) else { throw .nonCanonical }
    let tokens = topicTokens(text)
    for (index, token) in tokens.enumerated() {
      let isLast = index == tokens.count - 1
      guard
        isTopicToken(token) || token.elementsEqual(anyTokenBytes)
          || (isLast && token.elementsEqual(anyRestBytes))
      else { throw .nonCanonical }
    }
    self.text = text
  }

  package init(_ bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .nonCanonical }
    try self.init(text)
  }

  package init(_ topic: Topic) { text = topic.text }

  /// Itself as a concrete topic; nil when it has a wildcard.
  package var topic: Topic? { try? Topic(text) }

  /// The first token: a word, `*` or `>`.
  package var head: String { String(text[..<(text.firstIndex(of: ".") ?? text.endIndex)]) }

  /// Linear in the length of the two texts: no token is looked at twice.
  package func matches(_ topic: Topic) -> Bool {
    let wanted = topicTokens(text)
    let given = topicTokens(topic.text)
    for (index, token) in wanted.enumerated() {
      guard index < given.count else { return false }
      if index == wanted.count - 1, token.elementsEqual(anyRestBytes) { return true }
      guard token.elementsEqual(anyTokenBytes) || token.elementsEqual(given[index]) else { return false }
    }
    return wanted.count == given.count
  }

  package var description: String { text }
  package static func < (a: Self, b: Self) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
}

/// A topic or pattern at its home node, which keeps its members: `orders.new@acme.example`, for people with a
/// `#` before it.
package struct TopicAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let pattern: TopicPattern
  package let node: NodeName

  package init(_ pattern: TopicPattern, at node: NodeName) { (self.pattern, self.node) = (pattern, node) }

  /// - Parameter home: the node that is meant where the text names none; nil when it has to.
  package init(_ text: String, home: NodeName? = nil) throws(CodecError) {
    let plain = text.hasPrefix("#") ? text.dropFirst() : text[...]
    if let at = plain.firstIndex(of: "@") {
      pattern = try TopicPattern(String(plain[..<at]))
      node = try NodeName(String(plain[plain.index(after: at)...]))
    } else {
      guard let home else { throw .nonCanonical }
      pattern = try TopicPattern(String(plain))
      node = home
    }
  }

  package var topic: Topic? { pattern.topic }
  /// Without the `#`.
  package var text: String { "\(pattern.text)@\(node.text)" }
  package var description: String { "#\(text)" }
  package static func < (a: Self, b: Self) -> Bool { (a.node, a.pattern) < (b.node, b.pattern) }
}

/// What may stand in a header's topic field.
package func isTopic(_ text: String) -> Bool {
  guard (1...Limits.topicBytesMax).contains(text.utf8.count) else { return false }
  return topicTokens(text).allSatisfy(isTopicToken)
}

private let anyTokenBytes = Array(TopicPattern.anyToken.utf8)
private let anyRestBytes = Array(TopicPattern.anyRest.utf8)

private func topicTokens(_ text: String) -> [Substring.UTF8View] {
  text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
}

private func isTopicToken(_ token: Substring.UTF8View) -> Bool {
  (1...Limits.topicTokenBytesMax).contains(token.count)
    && token.allSatisfy { isLowerAlphanumeric($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") }
}
