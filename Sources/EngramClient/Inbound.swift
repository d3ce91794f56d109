internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import EngramSealing

/// What a batch of mailbox items came to.
struct InboundResult: Sendable {
  /// To be sent to the node; envelopes that the application has yet to acknowledge are not among them.
  var acks: [MailboxAck] = []
  /// Envelopes among the acks, to be marked as settled once the node has them.
  var settles: [(id: EnvelopeID, seq: UInt64)] = []
  /// Items that are neither kept for the application nor acknowledged: a person or a later certificate
  /// decides.
  var held = 0
  /// Messages that were new.
  var stored = 0
  /// Control messages that were followed.
  var controls = 0
  /// Why the last of them was held.
  var heldCode = ErrorCode.none
  /// Leased messages for the application, in the node's order.
  var offers: [WorkOffer] = []
  /// What this device has to say at once about leased ones.
  var answers: [WorkAnswer] = []
  var highestSeq: UInt64 = 0
  /// The node told something that is to be looked after.
  var hasNews = false

  mutating func hold(_ code: ErrorCode) {
    held += 1
    heldCode = code
  }
}

/// The recipient's path of a message, one transaction per batch:
///
/// 1. certificate item → verified → kept, unless it contradicts what is pinned
/// 2. bytes → `UnverifiedEnvelope`
/// 3. known already? → the same answer again, nothing shown
/// 4. sender's certificate, active in the newest device list, of the pinned identity → `VerifiedEnvelope`
/// 5. message id unused, times
/// 6. opened (`open`: own wrap, context, commitment, tag, padding)
/// 7. place in the sender's chain judged; a gap is an alarm, a fork is refused
/// 8. plaintext, chain place, pin and prekey use: committed together; a control message is followed instead,
///    and an answer to a message of another thread is refused
///
/// What cannot be opened is answered with a signed `failed` receipt and remembered as an alarm. Nothing else
/// goes outward.
///
/// Made for one batch, and remembers what it has looked up: nobody else changes it within the transaction.
struct Inbound {
  let account: AccountRow
  let device: SigningKey
  let credentials: CredentialCache
  let nowMs: UInt64
  /// The item at hand came under a lease.
  var isLeased = false
  /// Something was found missing that was not before.
  private(set) var sawGap = false
  private var judge: ReceiptJudge
  private var senders: [Kid: KnownSender] = [:]
  private var chains: [Kid: KnownChain] = [:]
  private var prekeys: [PrekeyID: PrekeySecret] = [:]

  /// A device whose certificate, list and pin agree.
  private struct KnownSender {
    let certificate: DeviceCertificate
    let list: DeviceList
    var isPinned: Bool
  }

  private struct KnownChain {
    /// The newest place, 0 for none.
    var head: ChainPosition
    var hasGap: Bool
  }

  init(account: AccountRow, device: SigningKey, credentials: CredentialCache, nowMs: UInt64) {
    (self.account, self.device, self.credentials, self.nowMs) = (account, device, credentials, nowMs)
    judge = ReceiptJudge(account: account, credentials: credentials)
  }

  mutating func process(_ items: [MailboxItem], in rows: ClientTransaction) throws -> InboundResult {
    var result = InboundResult()
    let account = try rows.account()
    for item in items {
      result.highestSeq = max(result.highestSeq, item.seq)
      switch item.kind {
      case .certificate:
        try learn(item.payload, in: rows)
        senders.removeAll()
      case .envelope: try admit(item, purgedThroughMs: account.purgedThroughMs, in: rows, &result)
      case .receipt: try apply(item, in: rows, &result)
      case .leased: try admitLeased(item, purgedThroughMs: account.purgedThroughMs, in: rows, &result)
      case .notice: try hear(item, in: rows, &result)
      }
    }
    return result
  }

  // MARK: 1. Certificates

  private func learn(_ payload: [UInt8], in rows: ClientTransaction) throws {
    guard let item = try? CertificateItem(parsing: payload[...]),
      let certificate = try? credentials.certificate(item.certificate),
      let list = try? credentials.list(item.deviceList),
      certificate.body.address == list.body.address, certificate.body.identity == list.body.identity
    else { return }
    let (address, identity) = (certificate.body.address, certificate.body.identity)
    if let pin = try rows.peer(address), pin.identity != identity {
      try rows.note(.identityChanged(offered: identity), about: address, nowMs: nowMs)
      return
    }
    let known = try rows.deviceList(of: address)
    if let known, known.identity != identity { return }
    if let bytes = try rows.certificate(of: certificate.kid), let old = try? credentials.certificate(bytes),
      old.body.serial > certificate.body.serial
    {
      return
    }
    try rows.setDevice(certificate.kid, address: address, certificate: item.certificate)
    guard list.body.version > (known?.version ?? 0) || known == nil else { return }
    try rows.setDeviceList(address, identity: identity, version: list.body.version, list: item.deviceList)
    // It may have devices that the last answer did not know.
    try rows.expireDirectoryAnswer(address)
  }

  // MARK: 2 to 8. Envelopes

  mutating func admit(
    _ item: MailboxItem, purgedThroughMs: UInt64, in rows: ClientTransaction, _ result: inout InboundResult
  ) throws {
    let envelope: UnverifiedEnvelope
    do throws(CodecError) {
      envelope = try UnverifiedEnvelope(parsing: item.payload)
    } catch {
      // Without a header there is nothing to sign a receipt about.
      try rows.raise(.unopened, error.code, address: account.address.node.text, nowMs: nowMs)
      result.hold(error.code)
      return
    }
    let header = envelope.header
    let id = EnvelopeDigests(of: envelope).id
    if try repeats(id, item.seq, in: rows, &result) { return }
    switch try authenticate(envelope, in: rows) {
    case .held(let code):
      try rows.raise(
        .unopened, code, address: header.sender.text, kid: header.senderKid, envelope: id, nowMs: nowMs)
      result.hold(code)
    case .identityChanged(let offered):
      try rows.note(.identityChanged(offered: offered), about: header.sender, nowMs: nowMs)
      result.hold(.identityChanged)
    case .refused(let code):
      // Nobody is known to have said this, so it must not use up the message id of somebody who may.
      try refuse(header, id, item.seq, code, remember: false, in: rows, &result)
    case .verified(let verified):
      switch try admitVerified(verified, item.seq, purgedThroughMs, in: rows) {
      case .followed:
        let receipt = sign(.processed, .none, id, header.sender, header.senderKid, header.messageID)
        try rows.insertAnswered(header, id, seq: item.seq, receipt: receipt, nowMs: nowMs)
        result.acks.append(MailboxAck(seq: item.seq, receipt: receipt))
        result.settles.append((id, item.seq))
        result.controls += 1
      case .kept: result.stored += 1
      case .refused(let code):
        try refuse(header, id, item.seq, code, remember: code != .messageIDReused, in: rows, &result)
      }
    }
  }

  /// Step 3. A message that was answered gets the same answer; one that the application still has is left
  /// alone.
  private func repeats(
    _ id: EnvelopeID, _ seq: UInt64, in rows: ClientTransaction, _ result: inout InboundResult
  ) throws -> Bool {
    guard let known = try rows.inboxState(id) else { return false }
    if known.seq != seq { try rows.updateSeq(id, seq: seq) }
    if let receipt = known.receipt {
      result.acks.append(MailboxAck(seq: seq, receipt: receipt))
      result.settles.append((id, seq))
    } else if !isLeased {
      try rows.unmarkLeased(id)
    }
    return true
  }

  private enum Authenticity {
    case held(ErrorCode)
    case identityChanged(offered: SigningPublicKey)
    case refused(ErrorCode)
    case verified(VerifiedEnvelope)
  }

  /// Step 4.
  private mutating func authenticate(
    _ envelope: UnverifiedEnvelope, in rows: ClientTransaction
  ) throws -> Authenticity {
    let header = envelope.header
    if let known = senders[header.senderKid], known.certificate.body.address == header.sender {
      return verify(envelope, of: known)
    }
    guard let bytes = try rows.certificate(of: header.senderKid),
      let stored = try rows.deviceList(of: header.sender)
    else { return .held(.unknownDevice) }
    guard let certificate = try? credentials.certificate(bytes),
      let list = try? credentials.list(stored.bytes)
    else {
      throw ClientStoreError.damaged
    }
    let identity = certificate.body.identity
    let pin = try rows.peer(header.sender)
    if let pin, pin.identity != identity { return .identityChanged(offered: identity) }
    guard list.body.identity == identity else { return .held(.badCertificate) }
    let sender = KnownSender(certificate: certificate, list: list, isPinned: pin != nil)
    if certificate.body.address == header.sender { senders[header.senderKid] = sender }
    return verify(envelope, of: sender)
  }

  private func verify(_ envelope: UnverifiedEnvelope, of sender: KnownSender) -> Authenticity {
    guard sender.list.body.isActive(envelope.header.senderKid) else { return .refused(.deviceInactive) }
    guard sender.certificate.isValid(atMs: envelope.header.createdMs) else {
      return .refused(.badCertificate)
    }
    do throws(CredentialError) {
      return .verified(try VerifiedEnvelope(envelope, sender: sender.certificate))
    } catch { return .refused(error.code) }
  }

  /// What became of a message whose sender is certain.
  private enum Admission {
    /// A control message: its answer is signed at once.
    case followed
    /// For the application.
    case kept
    case refused(ErrorCode)
  }

  /// Steps 5 to 8.
  private mutating func admitVerified(
    _ verified: VerifiedEnvelope, _ seq: UInt64, _ purgedThroughMs: UInt64, in rows: ClientTransaction
  ) throws -> Admission {
    let header = verified.header
    if try rows.envelope(of: header.messageID, sender: header.sender, kid: header.senderKid) != nil {
      try raise(.fork, .messageIDReused, verified, in: rows)
      return .refused(.messageIDReused)
    }
    guard header.expiresMs > purgedThroughMs else { return .refused(.replayWindowClosed) }
    // A life longer than this device keeps secrets for is no reason to refuse what it can open.
    let times = checkTimes(header, nowMs: nowMs, ttlMsMax: Limits.ttlMsMax)
    guard times == .none else { return .refused(times) }
    let message: OpenedMessage
    do {
      message = try open(verified, as: account.address, kid: account.kid) { id in
        if let known = prekeys[id] { return known }
        let secret = try rows.prekeySecret(id)
        prekeys[id] = secret
        return secret
      }
    } catch let error as OpenError {
      try raise(.unopened, error.code, verified, in: rows)
      return .refused(error.code)
    }
    var isAfterGap = false
    var chain = try chain(from: header.senderKid, in: rows)
    switch try judgePlace(message, after: chain.head, in: rows) {
    case .inOrder: break
    case .gap(let missing):
      isAfterGap = true
      chain.hasGap = true
      sawGap = true
      try rows.raise(
        .gap, .chainGap, address: header.sender.text, kid: header.senderKid, missing: missing, nowMs: nowMs)
    case .duplicate: return .refused(.replayWindowClosed)
    case .fork:
      try raise(.fork, .chainFork, verified, in: rows)
      return .refused(.chainFork)
    }
    try pin(header.senderKid, in: rows)
    try rows.record(message.chain, id: message.id, from: header.senderKid, expiresMs: header.expiresMs)
    if chain.hasGap { try rows.closeGaps(from: header.senderKid, around: message.chain, nowMs: nowMs) }
    if message.chain.seq > chain.head.seq {
      chain.head = ChainPosition(seq: message.chain.seq, previous: message.id)
    }
    chains[header.senderKid] = chain
    try rows.consumePrekey(message.prekey, kind: message.prekeyKind)
    if message.prekeyKind == .oneTime { prekeys[message.prekey] = nil }
    return try take(message, seq, isAfterGap: isAfterGap, in: rows)
  }

  /// The last of step 8: the message has its place in the chain, whatever is done with it.
  private func take(
    _ message: OpenedMessage, _ seq: UInt64, isAfterGap: Bool, in rows: ClientTransaction
  ) throws -> Admission {
    if message.header.kind == .control {
      let code = try follow(message, in: rows)
      return code == .none ? .followed : .refused(code)
    }
    if let parent = message.header.parent, let known = try rows.lineage(of: parent),
      known.thread != message.header.thread
    {
      return .refused(.parentInvalid)
    }
    try rows.insertMessage(message, seq: seq, isAfterGap: isAfterGap, nowMs: nowMs)
    return .kept
  }

  private func chain(from kid: Kid, in rows: ClientTransaction) throws -> KnownChain {
    try chains[kid]
      ?? KnownChain(head: try rows.chainHead(from: kid), hasGap: try rows.hasOpenGap(from: kid))
  }

  /// `head` names the newest message instead of its predecessor: what the next one has to name.
  private func judgePlace(
    _ message: OpenedMessage, after head: ChainPosition, in rows: ClientTransaction
  ) throws -> ChainVerdict {
    // The usual case needs no look at the record: nothing is known from the next place on.
    guard message.chain.seq == head.seq + 1 else {
      return try rows.judge(message.chain, id: message.id, from: message.header.senderKid)
    }
    return judgeChain(message.chain, id: message.id, highest: head.seq) { seq in
      seq == head.seq && seq > 0 ? (head.previous, .zero) : nil
    }
  }

  private mutating func pin(_ kid: Kid, in rows: ClientTransaction) throws {
    guard let sender = senders[kid], !sender.isPinned else { return }
    let body = sender.certificate.body
    try rows.pinPeer(body.address, identity: body.identity, nowMs: nowMs)
    senders[kid]?.isPinned = true
  }

  private func raise(
    _ kind: AlarmKind, _ code: ErrorCode, _ verified: VerifiedEnvelope, in rows: ClientTransaction
  ) throws {
    try rows.raise(
      kind, code, address: verified.header.sender.text, kid: verified.header.senderKid, envelope: verified.id,
      nowMs: nowMs)
  }

  private func refuse(
    _ header: EnvelopeHeader, _ id: EnvelopeID, _ seq: UInt64, _ code: ErrorCode, remember: Bool,
    in rows: ClientTransaction, _ result: inout InboundResult
  ) throws {
    let receipt = sign(.failed, code, id, header.sender, header.senderKid, header.messageID)
    if remember {
      try rows.insertAnswered(header, id, seq: seq, receipt: receipt, nowMs: nowMs)
    } else {
      try rows.raise(
        .unopened, code, address: header.sender.text, kid: header.senderKid, envelope: id, nowMs: nowMs)
    }
    result.acks.append(MailboxAck(seq: seq, receipt: receipt))
    result.settles.append((id, seq))
  }

  /// The device's signed word about an envelope.
  func sign(
    _ state: ReceiptState, _ code: ErrorCode, _ id: EnvelopeID, _ sender: Address, _ senderKid: Kid,
    _ message: MessageID
  ) -> [UInt8] {
    signDeviceReceipts([statement(state, code, id, sender, senderKid, message)], with: device)[0]
  }

  /// What `sign` signs, to be signed with others.
  func statement(
    _ state: ReceiptState, _ code: ErrorCode, _ id: EnvelopeID, _ sender: Address, _ senderKid: Kid,
    _ message: MessageID
  ) -> ReceiptBody {
    ReceiptBody(
      role: .device, issuerName: account.address.text, issuerKey: device.publicKey, envelope: id,
      sender: sender, senderKid: senderKid, messageID: message, recipient: account.address,
      recipientKid: account.kid, state: state, code: code, atMs: nowMs)
  }

  // MARK: Receipts about our own messages

  /// Each kept if it verifies, an alarm if not; either way the row is done with.
  private mutating func apply(
    _ item: MailboxItem, in rows: ClientTransaction, _ result: inout InboundResult
  ) throws {
    let receipts = try? splitBatch(item.payload[...])
    if receipts == nil { try raiseRefused(.malformed, in: rows) }
    for receipt in receipts ?? [] {
      switch try judge.judge(Array(receipt), in: rows) {
      case .success(let receipt):
        try rows.insertReceipt(receipt)
        try lookAgain(after: receipt.body, in: rows)
        // What is sent next has to be sealed for another key.
        if receipt.body.code == .prekeyGone, let address = receipt.body.recipient {
          try rows.expireDirectoryAnswer(address)
        }
      // A message that was purged: old news, not an attack.
      case .failure(.notFound): break
      case .failure(let code): try raiseRefused(code, in: rows)
      }
    }
    result.acks.append(MailboxAck(seq: item.seq))
  }

  /// What was sealed for a device that is not there any more says that the list we went by is out of date.
  private func lookAgain(after receipt: ReceiptBody, in rows: ClientTransaction) throws {
    guard receipt.state == .failed else { return }
    if let recipient = receipt.recipient {
      if receipt.code.saysDeviceIsGone { try rows.expireDirectoryAnswer(recipient) }
    } else if let row = try rows.outbox(envelope: receipt.envelope) {
      try rows.lookAgain(after: receipt.code, row, at: receipt.issuerName)
    }
  }

  private func raiseRefused(_ code: ErrorCode, in rows: ClientTransaction) throws {
    try rows.raise(.receiptRefused, code, address: account.address.node.text, nowMs: nowMs)
  }

  // MARK: News of the node

  /// Kept with what it is about; a notice of a kind that this version does not know is done with.
  private func hear(_ item: MailboxItem, in rows: ClientTransaction, _ result: inout InboundResult) throws {
    result.acks.append(MailboxAck(seq: item.seq))
    guard let notice = try? NodeNotice(parsing: item.payload[...]) else { return }
    switch notice.kind {
    case .topicMembership:
      guard let news = try? TopicMembershipNotice(parsing: notice.payload[...]) else { return }
      let topic = TopicAddress(TopicPattern(news.topic), at: news.node)
      try rows.noteMembership(topic, news.member, joined: news.joined)
      result.hasNews = true
    }
  }
}
