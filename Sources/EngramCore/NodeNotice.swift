/// Payload of a mailbox item of kind `notice`: something that the node tells a client by itself. Acknowledged
/// with an empty receipt.
package enum NodeNotice: Equatable, Sendable {
  /// 1: `topic | home node | address | joined u8`: a topic of which this client keeps the last value has a new
  /// member, or one less.
  case topicMembership(Topic, node: NodeName, member: Address, joined: Bool)

  package func encoded() -> [UInt8] {
    switch self {
    case .topicMembership(let topic, let node, let member, let joined):
      fields {
        $0.field(UInt8(1))
        $0.field(topic.text)
        $0.field(node.text)
        $0.field(member.text)
        $0.field(UInt8(joined ? 1 : 0))
      }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    self = try parse(bytes) { (r) throws(CodecError) in
      guard try r.integer(UInt8.self) == 1 else { throw .unknownValue }
      return .topicMembership(
        try Topic(try r.field(max: Limits.topicBytesMax)),
        node: try NodeName(try r.field(max: Limits.nodeNameBytesMax)),
        member: try Address(try r.field(max: Limits.addressBytesMax)), joined: try flag(try r.integer()))
    }
  }
}
