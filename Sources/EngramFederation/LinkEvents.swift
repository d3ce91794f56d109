package import EngramCore
package import EngramNode

/// One frame as it travels: `length u32 | type u8 | payload`, where length counts type and payload.
package struct LinkFrame: Sendable, Equatable {
  package var type: UInt8
  package var payload: ArraySlice<UInt8>
  package init(type: UInt8, payload: ArraySlice<UInt8>) { (self.type, self.payload) = (type, payload) }
}

/// Everything that is fixed while a link lives.
package struct LinkConfiguration: Sendable {
  package var role: LinkRole
  package var identity: NodeIdentity
  package var peer: Peer
  /// The TLS exporter value that both hellos sign.
  package var exporter: [UInt8]
  package var settings: LinkSettings
  package var features: LinkFeatures

  package init(
    role: LinkRole, identity: NodeIdentity, peer: Peer, exporter: [UInt8],
    settings: LinkSettings = LinkSettings(),
    features: LinkFeatures = .supported
  ) {
    (self.role, self.identity, self.peer) = (role, identity, peer)
    (self.exporter, self.settings, self.features) = (exporter, settings, features)
  }
}

/// The durable numbers of a link, read from the store.
package struct LinkNumbers: Sendable, Equatable {
  package var outEpoch: UInt64
  package var inEpoch: UInt64
  package var inThrough: UInt64
  /// The peer acknowledged everything up to here.
  package var ackedThrough: UInt64
  package var highestAssigned: UInt64

  package init(
    outEpoch: UInt64, inEpoch: UInt64 = 0, inThrough: UInt64 = 0, ackedThrough: UInt64 = 0,
    highestAssigned: UInt64 = 0
  ) {
    (self.outEpoch, self.inEpoch, self.inThrough) = (outEpoch, inEpoch, inThrough)
    (self.ackedThrough, self.highestAssigned) = (ackedThrough, highestAssigned)
  }
}

/// An envelope waiting for the peer.
package struct OutboundRow: Sendable {
  package var seq: UInt64
  /// Rows go out by this, then by number.
  package var rank: UInt64
  /// Nil for one that is too large to be read ahead; `readLarge` asks for it.
  package var bytes: [UInt8]?
  package var byteCount: Int
  package var senderKid: Kid
  package init(seq: UInt64, rank: UInt64 = 0, bytes: [UInt8]?, byteCount: Int? = nil, senderKid: Kid) {
    (self.seq, self.rank, self.bytes, self.senderKid) = (seq, rank, bytes, senderKid)
    self.byteCount = byteCount ?? bytes?.count ?? 0
  }
}

/// A sender's certificate and device list, as a link carries them.
package struct SenderCertificate: Sendable {
  package var kid: Kid
  /// Of the device list; a link carries the item again when it has grown.
  package var listVersion: UInt64
  package var item: CertificateItem
  package init(kid: Kid, listVersion: UInt64, item: CertificateItem) {
    (self.kid, self.listVersion, self.item) = (kid, listVersion, item)
  }
}

/// Envelopes to be verified and committed together, each with its number.
package struct InboundBatch: Sendable {
  package var epoch: UInt64
  package var seqs: [UInt64]
  package var envelopes: [ArraySlice<UInt8>]
  package var byteCount: Int
}

/// Whether a link whose peer proved itself may live beside what is there already.
package enum LinkClaim: Sendable, Equatable {
  case granted(replacedOther: Bool)
  case refused(ErrorCode)
}

/// What happened, told to a `LinkStateMachine`.
package enum LinkEvent: Sendable {
  /// Answer to `acceptEnvelopes`, once its commit is durable; in the order of the batches.
  case batchCommitted(InboundBatch, [AckFrame.Item])
  /// The batch was verified and handed on: the next one may start.
  case batchVerified
  /// Answer to `learn`.
  case certificateLearned(ErrorCode)
  /// Answer to `claim`.
  case claimed(LinkClaim)
  /// Answer to `answerDirectory`.
  case directoryAnswered(request: UInt32, ErrorCode, [UInt8])
  /// Somebody here asks the peer's directory; answered by `resolveLookup` with the same id.
  case directoryLookup(id: UInt64, Address)
  /// The node stops, or the peer was removed: finish what is open, then say goodbye with this code.
  case drain(ErrorCode)
  case envelopesAvailable
  /// Answer to `readEnvelopes`: rows, how far the mailbox was read for them, and the certificates that they
  /// need first.
  case envelopesRead([OutboundRow], through: OutboxCursor, certificates: [SenderCertificate])
  case envelopesReadFailed
  /// Answer to `redrawEpoch`.
  case epochRedrawn
  /// A broken frame, or a failure of ours: the link cannot go on.
  case failed(ErrorCode)
  /// Answer to `readLarge`: nil when the row has ended.
  case largeRead([UInt8]?)
  case largeReadFailed
  /// Answer to `loadNumbers`.
  case numbersLoaded(LinkNumbers)
  /// TLS is up and the exporter is known.
  case opened
  /// The peer has connected anew: is this link still alive?
  case probed
  case receiptsAvailable
  /// Answer to `acceptReceipts`.
  case receiptsCommitted(ReceiptsTicket, ErrorCode)
  /// Answer to `readReceipts`.
  case receiptsRead([ReceiptsRow])
  case receiptsReadFailed
  case received(LinkFrame)
  /// Answer to `answerRequest`.
  case requestAnswered(request: UInt32, ErrorCode, [UInt8])
  /// Somebody here asks the peer for something; answered by `resolveRequest` with the same id.
  case requestMade(id: UInt64, RequestKind, [UInt8])
  /// Answer to `settle`: this many outcomes are durable.
  case settled(Int)
  /// Time passed; sent about four times a second.
  case ticked
  case transportLost
  /// The transport takes more, or asks to wait.
  case writabilityChanged(Bool)
}

/// What to do, told by a `LinkStateMachine`; in this order.
package enum LinkAction: Sendable {
  case acceptEnvelopes(InboundBatch)
  case acceptReceipts(ReceiptsTicket, [[UInt8]])
  case answerDirectory(request: UInt32, Address)
  /// The kind as it came: the node knows which it serves.
  case answerRequest(request: UInt32, kind: UInt8, [UInt8])
  case claim
  /// Everything sent before goes out, then the transport closes.
  case close(LinkEnd)
  case established
  case learn(CertificateItem)
  case loadNumbers
  case readEnvelopes(after: OutboxCursor, maxCount: Int, maxBytes: Int)
  /// The bytes of a row that was read without them.
  case readLarge(seq: UInt64)
  case readReceipts(after: UInt64, maxCount: Int)
  /// Our own store was rolled back: numbering starts over.
  case redrawEpoch
  /// The peer's store forgot what it had acknowledged; an operator must know.
  case reportPeerRollback
  case resolveLookup(id: UInt64, Result<[UInt8], ErrorCode>)
  case resolveRequest(id: UInt64, Result<[UInt8], ErrorCode>)
  case send(FrameType, [UInt8])
  case settle(through: UInt64, [AckFrame.Item])
  case settleReceipts(through: UInt64)
}

/// How a link ended.
package enum LinkEnd: Sendable, Equatable {
  case closedByPeer(ErrorCode, retryAfterMs: UInt32)
  case closedByUs(ErrorCode)
  case lost

  package var code: ErrorCode {
    switch self {
    case .closedByPeer(let code, _), .closedByUs(let code): code
    case .lost: .peerUnreachable
    }
  }
}
