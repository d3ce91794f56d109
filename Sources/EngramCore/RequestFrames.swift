/// What one node may ask another on behalf of its clients. A number that is not in this table is answered
/// with `not-supported`, so that a later kind needs no feature bit of its own.
package enum RequestKind: UInt8, CaseIterable, Sendable {
  case topicSubscribe = 1
  case topicUnsubscribe = 2
  case topicMembers = 3
  case templates = 4
  case topicRetain = 5
  case topicChanged = 6
}

/// `request = request u32 | kind u8 | payload`: the meaning of the payload depends on the kind.
package struct RequestFrame: Equatable, Sendable {
  package var request: UInt32
  /// As it came: an unknown one is answered, not refused.
  package var kind: UInt8
  package var payload: [UInt8]

  package init(request: UInt32, kind: UInt8, payload: [UInt8]) {
    (self.request, self.kind, self.payload) = (request, kind, payload)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: payload.count + 32) {
      $0.field(request)
      $0.field(kind)
      $0.field(payload)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (request, kind, payload) = try parse(bytes) { (r) throws(CodecError) in
      (try r.integer(), try r.integer(), Array(try r.field(max: Limits.requestBytesMax)))
    }
  }
}

/// `response = request u32 | code u16 | payload`: code 0 comes with the payload of its kind, any other with
/// an empty one.
package struct ResponseFrame: Equatable, Sendable {
  package var request: UInt32
  package var code: ErrorCode
  package var payload: [UInt8]

  package init(request: UInt32, code: ErrorCode, payload: [UInt8]) {
    (self.request, self.code, self.payload) = (request, code, payload)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: payload.count + 32) {
      $0.field(request)
      $0.field(code.rawValue)
      $0.field(payload)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (request, code, payload) = try parse(bytes) { (r) throws(CodecError) in
      (
        try r.integer(), ErrorCode(received: try r.integer()),
        Array(try r.field(max: Limits.responseBytesMax))
      )
    }
    guard code == .none || payload.isEmpty else { throw .nonCanonical }
  }
}

/// Payload of `topicSubscribe` and `topicUnsubscribe`: `pattern | address | kid`. The answer is empty.
package struct TopicMembershipRequest: Equatable, Sendable {
  package var pattern: TopicPattern
  package var address: Address
  /// The device that asked for it.
  package var kid: Kid

  package init(pattern: TopicPattern, address: Address, kid: Kid) {
    (self.pattern, self.address, self.kid) = (pattern, address, kid)
  }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(pattern.text)
      $0.field(address.text)
      $0.field(kid.bytes)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (pattern, address, kid) = try parse(bytes) { (r) throws(CodecError) in
      (
        try TopicPattern(try r.field(max: Limits.topicBytesMax)),
        try Address(try r.field(max: Limits.addressBytesMax)), try Kid(field: try r.field(max: 16))
      )
    }
  }
}

/// Payload of `topicMembers`: `topic | after address or empty`.
package struct TopicMembersRequest: Equatable, Sendable {
  package var topic: Topic
  /// Members above this address, nil for the first page.
  package var after: Address?

  package init(topic: Topic, after: Address?) { (self.topic, self.after) = (topic, after) }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(topic.text)
      $0.field(after?.text ?? "")
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (topic, after) = try parse(bytes) { (r) throws(CodecError) in
      let topic = try Topic(try r.field(max: Limits.topicBytesMax))
      let after = try r.field(max: Limits.addressBytesMax)
      return (topic, after.isEmpty ? nil : try Address(after))
    }
  }
}

/// The answer to `topicMembers`: `more u8 (0, 1) | address | address | …`, strictly ascending.
package struct TopicMembersPage: Equatable, Sendable {
  /// There are members above the last one of this page.
  package var hasMore: Bool
  package var members: [Address]

  package init(hasMore: Bool, members: [Address]) { (self.hasMore, self.members) = (hasMore, members) }

  package func encoded() -> [UInt8] {
    fields(capacity: members.count * 64) { w in
      w.field(UInt8(hasMore ? 1 : 0))
      for member in members { w.field(member.text) }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    hasMore = try flag(try r.integer())
    var members: [Address] = []
    try r.rest(maxCount: Limits.topicMembersPerPageMax) { (r) throws(CodecError) in
      let address = try Address(try r.field(max: Limits.addressBytesMax))
      if let last = members.last, last >= address { throw .nonCanonical }
      members.append(address)
    }
    // A page that promises more and ends nowhere would be asked for for ever.
    guard !hasMore || !members.isEmpty else { throw .nonCanonical }
    self.members = members
  }
}

/// Payload of `topicRetain`: `topic | address | keeps u8 (0, 1)`. The answer is empty.
package struct TopicRetainRequest: Equatable, Sendable {
  package var topic: Topic
  /// The publisher that keeps the last value of this topic.
  package var address: Address
  package var keeps: Bool

  package init(topic: Topic, address: Address, keeps: Bool) {
    (self.topic, self.address, self.keeps) = (topic, address, keeps)
  }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(topic.text)
      $0.field(address.text)
      $0.field(UInt8(keeps ? 1 : 0))
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (topic, address, keeps) = try parse(bytes) { (r) throws(CodecError) in
      (
        try Topic(try r.field(max: Limits.topicBytesMax)),
        try Address(try r.field(max: Limits.addressBytesMax)),
        try flag(try r.integer())
      )
    }
  }
}

/// Payload of `topicChanged`, from a topic's home node to a publisher's: `member | joined u8 (0, 1) |
/// (topic, publisher)…`, each pair one field. The answer is empty.
package struct TopicChangedRequest: Equatable, Sendable {
  package struct Kept: Equatable, Sendable {
    package var topic: Topic
    package var publisher: Address
    package init(topic: Topic, publisher: Address) { (self.topic, self.publisher) = (topic, publisher) }
  }

  package var member: Address
  package var joined: Bool
  package var kept: [Kept]

  package init(member: Address, joined: Bool, kept: [Kept]) {
    (self.member, self.joined, self.kept) = (member, joined, kept)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: 128 + kept.count * 128) { w in
      w.field(member.text)
      w.field(UInt8(joined ? 1 : 0))
      for pair in kept {
        w.list {
          $0.field(pair.topic.text)
          $0.field(pair.publisher.text)
        }
      }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    member = try Address(try r.field(max: Limits.addressBytesMax))
    joined = try flag(try r.integer())
    var kept: [Kept] = []
    try r.rest(maxCount: Limits.topicNoticesPerRequestMax) { (r) throws(CodecError) in
      kept.append(
        try parse(try r.field()) { (pair) throws(CodecError) in
          Kept(
            topic: try Topic(try pair.field(max: Limits.topicBytesMax)),
            publisher: try Address(try pair.field(max: Limits.addressBytesMax)))
        })
    }
    self.kept = kept
  }
}

/// A truth value has two encodings, 0 and 1.
func flag(_ value: UInt8) throws(CodecError) -> Bool {
  guard value <= 1 else { throw .unknownValue }
  return value == 1
}
