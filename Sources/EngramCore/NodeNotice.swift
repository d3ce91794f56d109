/// The payload of a `NodeNotice` of kind `topicMembership`: `topic | home node | address | joined u8 (0, 1)`.
/// A topic of which this client keeps the last value has a new member, or one less.
package struct TopicMembershipNotice: Equatable, Sendable {
  package var topic: Topic
  package var node: NodeName
  package var member: Address
  package var joined: Bool

  package init(topic: Topic, node: NodeName, member: Address, joined: Bool) {
    (self.topic, self.node, self.member, self.joined) = (topic, node, member, joined)
  }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(topic.text)
      $0.field(node.text)
      $0.field(member.text)
      $0.field(UInt8(joined ? 1 : 0))
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (topic, node, member, joined) = try parse(bytes) { (r) throws(CodecError) in
      (
        try Topic(try r.field(max: Limits.topicBytesMax)),
        try NodeName(try r.field(max: Limits.nodeNameBytesMax)),
        try Address(try r.field(max: Limits.addressBytesMax)), try flag(try r.integer())
      )
    }
  }
}
