import EngramCore
import EngramFederation
import TestSupport
import Testing

@Suite("Control frames of a link")
struct ControlTests {
  @Test("an unknown frame type ends the link")
  func unknownFrame() throws {
    var link = try TestLink.established()
    link.tell(.received(LinkFrame(type: 99, payload: [])))
    #expect(link.goodbye == .unknownFrame)
    #expect(link.end == .closedByUs(.unknownFrame))
  }

  @Test(
    "a frame whose feature one side did not offer ends the link, and is taken when both did",
    arguments: [
      (FrameType.deliver, LinkFeatures.deliver), (.receipts, .receipts), (.directoryQuery, .directory),
      (.part, .parts),
    ])
  func gating(type: FrameType, feature: LinkFeatures) throws {
    let address = try Address("bob@acme.example")
    let without = LinkFeatures.supported.subtracting(feature)
    for (ours, theirs, isTaken) in [
      (LinkFeatures.supported, LinkFeatures.supported, true), (.supported, without, false),
      (without, .supported, false),
    ] {
      var link = try TestLink.established(features: ours) { $0.features = theirs }
      let whole = link.deliverFrame(1, [[1]]).encoded()
      switch type {
      case .deliver: link.deliver(1, [[1]])
      case .receipts: link.receive(.receipts, receipts(1, [[1]]))
      case .directoryQuery:
        link.receive(.directoryQuery, DirectoryQueryFrame(request: 1, address: address).encoded())
      default:
        link.receive(
          .part,
          PartFrame(stream: 1, firstSeq: 1, total: UInt32(whole.count), offset: 0, bytes: whole[...])
            .encoded())
      }
      #expect(link.end == (isTaken ? nil : .closedByUs(.unexpectedFrame)))
    }
  }

  @Test("trailing bytes end the link", arguments: [FrameType.ping, .pong, .ack, .receiptsAck, .certificate])
  func trailingBytes(type: FrameType) throws {
    var link = try TestLink.established()
    let payload: [UInt8] =
      switch type {
      case .receiptsAck: ReceiptsAckFrame(epoch: acmeEpoch, through: 0).encoded()
      case .certificate: CertificateItem(certificate: [1], deviceList: [2]).encoded()
      default: []
      }
    link.receive(type, payload + [0])
    #expect(link.machine.isClosed)
  }

  private func receipts(_ seq: UInt64, _ receipts: [[UInt8]], epoch: UInt64 = globexEpoch) -> [UInt8] {
    ReceiptsFrame(epoch: epoch, seq: seq, receipts: receipts.map { $0[...] }).encoded()
  }

  // MARK: - Life

  @Test("a silent link is pinged, and closed after three pings without any frame")
  func silence() throws {
    var link = try TestLink.established()
    for expected in 1...3 {
      link.tick(ms: 15_000)
      #expect(link.frames(.ping).count == expected)
      #expect(link.end == nil)
    }
    link.tick(ms: 15_000)
    #expect(link.end == .closedByUs(.idleTimeout))
  }

  @Test("any frame is a sign of life")
  func signsOfLife() throws {
    var link = try TestLink.established()
    for _ in 0..<10 {
      link.tick(ms: 15_000)
      link.receive(.pong)
    }
    #expect(link.end == nil)
  }

  @Test("a ping is answered")
  func pong() throws {
    var link = try TestLink.established()
    link.receive(.ping)
    #expect(link.sentTypes.last == .pong)
  }

  @Test("a suspected link must show life soon")
  func probe() throws {
    var dead = try TestLink.established()
    dead.tell(.probed)
    #expect(dead.sentTypes.last == .ping)
    dead.tick(ms: LinkLimits.probeMs)
    #expect(dead.end == .closedByUs(.idleTimeout))
    var alive = try TestLink.established()
    alive.tell(.probed)
    alive.receive(.pong)
    alive.tick(ms: LinkLimits.probeMs)
    #expect(alive.end == nil)
  }

  @Test("the peer's goodbye ends the link with its reason")
  func goodbye() throws {
    var link = try TestLink.established()
    link.receive(.goodbye, GoodbyeFrame(code: .shuttingDown, retryAfterMs: 500).encoded())
    #expect(link.end == .closedByPeer(.shuttingDown, retryAfterMs: 500))
    #expect(link.goodbye == nil)
  }

  @Test("a draining link acknowledges what it took, takes no more, and then says goodbye")
  func draining() throws {
    var link = try TestLink.established()
    link.deliver(1, [[1]])
    let batch = try #require(link.accepted.first)
    link.tell(.drain(.shuttingDown))
    link.deliver(2, [[2]])
    #expect(link.end == nil)
    link.commit(batch)
    #expect(link.acks.map(\.through) == [1])
    #expect(link.goodbye == .shuttingDown)
    #expect(link.accepted.count == 1)
  }

  @Test("a draining link waits a moment for acknowledgements, and no longer")
  func drainingInFlight() throws {
    var link = try TestLink.established()
    link.rows([1])
    link.tell(.drain(.shuttingDown))
    #expect(link.end == nil)
    link.tick(ms: LinkLimits.drainMs)
    #expect(link.end == .closedByUs(.shuttingDown))
  }

  @Test("nothing follows after the end")
  func afterTheEnd() throws {
    var link = try TestLink.established()
    link.tell(.failed(.tooLarge))
    _ = link.take()
    link.deliver(1, [[1]])
    link.rows([1])
    link.tick(ms: 100_000)
    #expect(link.take().isEmpty)
  }

  // MARK: - Receipts

  @Test("receipts are acknowledged after their commit")
  func receiptsIn() throws {
    var link = try TestLink.established()
    link.receive(.receipts, receipts(4, [[1], [2]]))
    var tickets: [ReceiptsTicket] = []
    for case .acceptReceipts(let ticket, let receipts) in link.take() {
      tickets.append(ticket)
      #expect(receipts == [[1], [2]])
    }
    #expect(link.frames(.receiptsAck).isEmpty)
    link.tell(.receiptsCommitted(try #require(tickets.first), .none))
    #expect(
      try link.frames(.receiptsAck).map { try ReceiptsAckFrame(parsing: $0) }
        == [ReceiptsAckFrame(epoch: globexEpoch, through: 4)])
  }

  @Test("receipts that we cannot store end the link, wrong ones are dropped")
  func receiptsFail() throws {
    for (code, isEnd) in [(ErrorCode.storageFull, true), (.badSignature, false)] {
      var link = try TestLink.established()
      link.receive(.receipts, receipts(1, [[1]]))
      for case .acceptReceipts(let ticket, _) in link.take() { link.tell(.receiptsCommitted(ticket, code)) }
      #expect((link.end != nil) == isEnd)
      #expect(link.frames(.receiptsAck).isEmpty == isEnd)
    }
  }

  @Test("receipts rows go out in order and are settled by number")
  func receiptsOut() throws {
    var link = try TestLink.established()
    link.tell(
      .receiptsRead([ReceiptsRow(seq: 2, receipts: [[1], [2]]), ReceiptsRow(seq: 5, receipts: [[3]])]))
    let frames = try link.frames(.receipts).map { try ReceiptsFrame(parsing: $0) }
    #expect(frames.map(\.seq) == [2, 5])
    link.receive(.receiptsAck, ReceiptsAckFrame(epoch: acmeEpoch, through: 2).encoded())
    link.receive(.receiptsAck, ReceiptsAckFrame(epoch: acmeEpoch, through: 900).encoded())
    var settled: [UInt64] = []
    for case .settleReceipts(let through) in link.take() { settled.append(through) }
    #expect(settled == [2, 5], "never more than was sent")
  }

  @Test("receipts beyond the window end the link; a single row may always come")
  func receiptsWindow() throws {
    var settings = LinkSettings()
    settings.windowMessages = 2
    var link = try TestLink.established(settings: settings)
    link.receive(.receipts, receipts(1, [[1], [2], [3]]))
    #expect(link.end == nil)
    link.receive(.receipts, receipts(2, [[4]]))
    #expect(link.end == .closedByUs(.windowExceeded))
  }

  // MARK: - Directory

  @Test("a question is answered once, and an answer that nobody asked for ends the link")
  func lookups() throws {
    var link = try TestLink.established()
    link.tell(.directoryLookup(id: 7, try Address("bob@globex.example")))
    let query = try DirectoryQueryFrame(parsing: try #require(link.frames(.directoryQuery).first))
    let answer = DirectoryAnswerFrame(request: query.request, code: .none, answer: [1, 2]).encoded()
    link.receive(.directoryAnswer, answer)
    #expect(resolved(&link) == [7: .success([1, 2])])
    link.receive(.directoryAnswer, DirectoryAnswerFrame(request: 99, code: .none, answer: []).encoded())
    #expect(link.end == .closedByUs(.unexpectedFrame))
  }

  @Test("a question fails when its time is up, and its late answer is harmless")
  func lateAnswer() throws {
    var link = try TestLink.established()
    link.tell(.directoryLookup(id: 7, try Address("bob@globex.example")))
    link.tick(ms: LinkLimits.queryTimeoutMs)
    #expect(resolved(&link) == [7: .failure(.peerUnreachable)])
    link.receive(.directoryAnswer, DirectoryAnswerFrame(request: 1, code: .none, answer: []).encoded())
    #expect(link.end == nil)
  }

  @Test("open questions fail with the link")
  func lostLookups() throws {
    var link = try TestLink.established()
    link.tell(.directoryLookup(id: 7, try Address("bob@globex.example")))
    link.tell(.transportLost)
    #expect(resolved(&link) == [7: .failure(.peerUnreachable)])
    link.tell(.directoryLookup(id: 8, try Address("bob@globex.example")))
    #expect(resolved(&link) == [8: .failure(.peerUnreachable)])
  }

  @Test("a peer with too many open questions is told so")
  func tooManyQuestions() throws {
    var link = try TestLink.established()
    let query = DirectoryQueryFrame(request: 1, address: try Address("bob@acme.example")).encoded()
    for _ in 0...LinkLimits.queriesMax { link.receive(.directoryQuery, query) }
    let answers = try link.frames(.directoryAnswer).map { try DirectoryAnswerFrame(parsing: $0) }
    #expect(answers.map(\.code) == [.overloaded])
    #expect(link.end == nil)
  }

  private func resolved(_ link: inout TestLink) -> [UInt64: Result<[UInt8], ErrorCode>] {
    var out: [UInt64: Result<[UInt8], ErrorCode>] = [:]
    for case .resolveLookup(let id, let result) in link.take() { out[id] = result }
    return out
  }
}
