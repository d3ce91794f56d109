internal import EngramCore
internal import EngramCrypto

/// Where a message goes: one destination per mailbox, with the recipients (slots) it serves.
struct Routes: Equatable {
  struct Destination: Equatable {
    enum Kind: Equatable {
      case device
      case peer
      /// The mailbox that all devices of a client share; these of them can open the message, in the order of
      /// the slots.
      case workQueue([Kid])
    }
    let mailbox: Int64
    var kind: Kind
    var slots: [Int]
  }
  struct Unreachable: Equatable {
    let slot: Int
    let code: ErrorCode
  }
  var destinations: [Destination] = []
  var unreachable: [Unreachable] = []
}

/// Recipients to mailboxes: our own devices directly, everybody else's through their peer, once per peer.
/// From a peer nothing is forwarded (`mayForward` false): relaying needs a grant.
func route(
  _ recipients: [Recipient], home: NodeName, mayForward: Bool, device: (Kid) throws -> KnownDevice?,
  peer: (NodeName) -> KnownPeer?
) rethrows -> Routes {
  var routes = Routes()
  var positions: [Int64: Int] = [:]
  func add(_ mailbox: Int64, _ kind: Routes.Destination.Kind, _ slot: Int) {
    if let position = positions[mailbox] {
      routes.destinations[position].slots.append(slot)
      if case .workQueue(let kids) = routes.destinations[position].kind, case .workQueue(let more) = kind {
        routes.destinations[position].kind = .workQueue(kids + more)
      }
    } else {
      positions[mailbox] = routes.destinations.count
      routes.destinations.append(Routes.Destination(mailbox: mailbox, kind: kind, slots: [slot]))
    }
  }
  for (slot, recipient) in recipients.enumerated() {
    if recipient.address.node == home {
      let known = try device(recipient.kid)
      if let known, let mailbox = known.mailbox, known.certificate.body.address == recipient.address,
        !known.isDisabled, known.list.isActive(recipient.kid)
      {
        if let queue = known.workQueue {
          add(queue, .workQueue([recipient.kid]), slot)
        } else {
          add(mailbox, .device, slot)
        }
      } else {
        let isRevoked =
          known.map {
            $0.certificate.body.address == recipient.address && !$0.isDisabled
              && !$0.list.isActive(recipient.kid)
          } ?? false
        routes.unreachable.append(
          Routes.Unreachable(slot: slot, code: isRevoked ? .deviceRevoked : .unknownRecipient))
      }
    } else if mayForward {
      if let known = peer(recipient.address.node), known.peer.isEnabled {
        add(known.envelopes, .peer, slot)
      } else {
        routes.unreachable.append(Routes.Unreachable(slot: slot, code: .noRoute))
      }
    }
  }
  return routes
}
