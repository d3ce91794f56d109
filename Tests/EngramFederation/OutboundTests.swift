import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import TestSupport
import Testing

@Suite("Deliveries to the peer")
struct OutboundTests {
  @Test("consecutive rows share a frame and a gap starts a new one")
  func gaps() throws {
    var link = try TestLink.established()
    link.rows([1, 2, 3, 7, 8, 20])
    #expect(link.delivered.map(\.firstSeq) == [1, 7, 20])
    #expect(link.delivered.map(\.envelopes.count) == [3, 2, 1])
  }

  @Test("frames are filled up to their bound and no further")
  func filling() throws {
    var link = try TestLink.established()
    link.rows(1...20, bytes: 100_000)
    while link.machine.wantsToWrite { link.tell(.writabilityChanged(true)) }
    #expect(link.deliveredSeqs == Array(1...20))
    #expect(link.frames(.deliver).allSatisfy { $0.count <= LinkLimits.frameFillBytes + 200 })
    #expect(link.delivered.allSatisfy { $0.envelopes.count == 2 })
  }

  @Test("no more than the peer's window is under way, and acknowledgements open it again")
  func window() throws {
    var link = try TestLink.established { $0.window = 8 }
    #expect(link.reads.map(\.maxCount) == [8])
    link.rows(1...8)
    #expect(link.machine.inFlight == 8)
    #expect(link.reads.count == 1, "the window is full")
    link.acknowledge([1], through: 1)
    link.tell(.settled(1))
    #expect(link.reads.count == 1, "a read for one row is not worth it")
    link.acknowledge([2, 3], through: 3)
    link.tell(.settled(2))
    #expect(link.reads.map(\.after) == [.start, OutboxCursor(through: 8)])
    #expect(link.reads.last?.maxCount == 3)
  }

  @Test("outcomes that are not stored yet count against the window")
  func unsettled() throws {
    var link = try TestLink.established { $0.window = 4 }
    link.rows(1...4)
    link.acknowledge([1, 2, 3, 4], through: 4)
    #expect(link.reads.count == 1)
    link.tell(.settled(4))
    #expect(link.reads.count == 2)
  }

  @Test("bytes under way are bounded too, and one message may always go")
  func byteWindow() throws {
    var settings = LinkSettings()
    settings.windowBytes = 100_000
    var link = try TestLink.established(settings: settings)
    #expect(link.reads.map(\.maxBytes) == [100_000])
    link.rows([1], bytes: 500_000)
    #expect(link.deliveredSeqs == [1])
    #expect(link.reads.count == 1)
    link.acknowledge([1], through: 1)
    link.tell(.settled(1))
    #expect(link.reads.count == 2)
  }

  @Test("a signal during a read leads to another read")
  func signals() throws {
    var link = try TestLink.established()
    link.tell(.envelopesAvailable)
    #expect(link.reads.count == 1)
    link.rows([])
    #expect(link.reads.count == 2)
    link.rows([])
    #expect(link.reads.count == 2, "nothing new")
    link.tell(.envelopesAvailable)
    #expect(link.reads.count == 3)
  }

  @Test("without a signal the mailbox is looked at now and then")
  func sweep() throws {
    var link = try TestLink.established()
    link.tell(.envelopesReadFailed)
    #expect(link.reads.count == 1)
    link.tick(ms: LinkLimits.sweepMs)
    #expect(link.reads.count == 2)
  }

  @Test("a certificate goes ahead of its first envelope, once per link and device list")
  func certificates() throws {
    var link = try TestLink.established()
    let item = CertificateItem(certificate: [1], deviceList: [2])
    let row = { OutboundRow(seq: $0, bytes: [1], senderKid: .zero) }
    let read = { SenderCertificate(kid: .zero, listVersion: $0, item: item) }
    link.tell(.envelopesRead([row(1)], through: OutboxCursor(through: 1), certificates: [read(1)]))
    link.tell(.envelopesRead([row(2)], through: OutboxCursor(through: 2), certificates: [read(1)]))
    #expect(link.sentTypes.filter { $0 != .hello } == [.certificate, .deliver, .deliver])
    link.tell(.envelopesRead([row(3)], through: OutboxCursor(through: 3), certificates: [read(2)]))
    #expect(link.sentTypes.filter { $0 != .hello }.suffix(2) == [.certificate, .deliver])
    #expect(link.machine.certificatesSent == [.zero: 2])
  }

  @Test("nothing is sent while the transport is full")
  func backPressure() throws {
    var link = try TestLink.established()
    link.tell(.writabilityChanged(false))
    link.rows(1...3)
    #expect(link.deliveredSeqs.isEmpty)
    link.tell(.writabilityChanged(true))
    #expect(link.deliveredSeqs == [1, 2, 3])
  }

  @Test("one turn hands over a bounded amount and says that there is more")
  func quantum() throws {
    var link = try TestLink.established()
    link.rows(1...40, bytes: 50_000)
    #expect(link.deliveredSeqs.count < 40)
    #expect(link.machine.wantsToWrite)
    while link.machine.wantsToWrite { link.tell(.writabilityChanged(true)) }
    #expect(link.deliveredSeqs == Array(1...40))
  }

  // MARK: - Answers

  @Test("an ack for what was never sent, or was answered before, ends the link")
  func strangeAcks() throws {
    for seqs in [[4], [1, 1], [2, 1], [2, 9]] as [[UInt64]] {
      var link = try TestLink.established()
      link.rows(1...3)
      link.acknowledge(seqs, through: 3)
      #expect(link.end == .closedByUs(.nonCanonical))
    }
    var link = try TestLink.established()
    link.rows(1...3)
    link.acknowledge([3], through: 0)
    link.acknowledge([1, 2], through: 3)
    #expect(link.end == nil, "the control: frames may come in any order")
  }

  @Test("an ack of another numbering or for another pair of nodes ends the link")
  func foreignAcks() throws {
    var link = try TestLink.established()
    link.rows([1])
    link.acknowledge([1], through: 1, epoch: acmeEpoch + 1)
    #expect(link.end == .closedByUs(.nonCanonical))
    link = try TestLink.established()
    link.rows([1])
    link.receive(
      .ack,
      AckFrame(
        origin: link.nodes.globex.id, destination: link.nodes.acme.id, epoch: acmeEpoch, through: 1,
        items: [AckFrame.Item(seq: 1, outcome: .accepted)]
      ).encoded())
    #expect(link.end == .closedByUs(.wrongPeer))
  }

  @Test("a peer whose number runs ahead of resent rows does not settle the rows behind them")
  func resent() throws {
    var link = try TestLink.established()
    link.rows(1...10)
    link.acknowledge([1, 2], through: 10, outcome: .duplicate)
    #expect(link.settled.map(\.through) == [2])
    link.acknowledge(Array(3...10), through: 10, outcome: .duplicate)
    #expect(link.settled.map(\.through) == [2, 10])
  }

  @Test("every row still waiting is sent again on a new link, whatever the peer's number says")
  func resume() throws {
    let link = try TestLink.established(
      numbers: LinkNumbers(outEpoch: acmeEpoch, ackedThrough: 5, highestAssigned: 30)
    ) { $0.through = 20 }
    #expect(link.reads.map(\.after) == [.start])
  }

  @Test("what a peer puts off is queued again after a pause that grows, and other rows pass meanwhile")
  func later() throws {
    let (slow, other) = (signingKey(named: "slow").kid, signingKey(named: "other").kid)
    var link = try TestLink.established()
    link.rows([1], kid: slow)
    link.acknowledge([1], through: 1, outcome: .later)
    #expect(link.settled.isEmpty, "not at once")
    link.rows([2], kid: other)
    #expect(link.deliveredSeqs == [1, 2])
    link.acknowledge([2], through: 2)
    #expect(link.settled.map { $0.items.map(\.seq) } == [[2]])
    link.tick(ms: 250)
    #expect(link.settled.map { $0.items.map(\.seq) } == [[2], [1]])
    #expect(link.settled.map(\.through) == [2, 0])
    for (seq, waitMs) in [(3, 200), (4, 400), (5, 800)] as [(UInt64, UInt64)] {
      _ = link.take()
      link.rows([seq], kid: slow)
      link.acknowledge([seq], through: seq, outcome: .later)
      link.tick(ms: waitMs - 1)
      #expect(link.settled.isEmpty)
      link.tick(ms: 1)
      #expect(link.settled.map { $0.items.map(\.seq) } == [[seq]])
    }
    _ = link.take()
    link.rows([6], kid: slow)
    link.acknowledge([6], through: 6)
    link.rows([7], kid: slow)
    link.acknowledge([7], through: 7, outcome: .later)
    link.tick(ms: 100)
    #expect(link.settled.map { $0.items.map(\.seq) } == [[6], [7]], "an answer makes the pause short again")
  }

  @Test("rows that were put off leave half of the window to the others")
  func laterAndWindow() throws {
    var settings = LinkSettings()
    settings.windowMessages = 4
    var link = try TestLink.established(settings: settings)
    link.rows(1...4)
    #expect(link.reads.count == 1, "control: four on their way are the whole window")
    link.acknowledge([1, 2, 3, 4], through: 4, outcome: .later)
    #expect(link.reads.map(\.maxCount) == [4, 2])
  }

  @Test("what is more urgent goes ahead of rows that were read before it and not sent yet")
  func ranks() throws {
    var link = try TestLink.established()
    link.tell(.writabilityChanged(false))
    link.rows([5, 6], rank: 300)
    link.rows([9], rank: 100)
    link.rows([7], rank: 200)
    link.tell(.writabilityChanged(true))
    #expect(link.deliveredSeqs == [9, 7, 5, 6])
    // The control: nothing is called back that has left.
    link.rows([3], rank: 1)
    #expect(link.deliveredSeqs == [9, 7, 5, 6, 3])
    link.acknowledge([5, 7], through: 9)
    link.acknowledge([3, 6, 9], through: 9)
    #expect(link.settled.map { $0.items.map(\.seq) } == [[5, 7], [3, 6, 9]])
    #expect(link.settled.map(\.through) == [7, 9])
    #expect(link.end == nil)
  }

  @Test("little is read ahead of a transport that is full, so that urgent rows wait for little")
  func readAhead() throws {
    var link = try TestLink.established()
    link.tell(.writabilityChanged(false))
    #expect(link.reads.map(\.maxBytes) == [LinkLimits.readAheadBytes])
    link.rows(1...10, bytes: 100_000)
    #expect(link.reads.count == 1)
    link.tell(.writabilityChanged(true))
    #expect(link.reads.count == 2, "the control: there is room again")
  }

  // MARK: - Large envelopes

  @Test("large envelopes are read one at a time and have a window of their own")
  func largeReads() throws {
    var link = try TestLink.established()
    let large = { OutboundRow(seq: $0, rank: $1, bytes: nil, byteCount: 10 << 20, senderKid: .zero) }
    link.rows([large(1, 50), large(2, 40), large(3, 60)])
    link.rows([4, 5], rank: 50)
    #expect(link.deliveredSeqs == [4, 5])
    #expect(link.largeReads == [2])
    link.rows([6], rank: 99)
    #expect(link.deliveredSeqs == [4, 5, 6])
    link.tell(.largeRead([UInt8](repeating: 1, count: 10 << 20)))
    while link.machine.wantsToWrite { link.tell(.writabilityChanged(true)) }
    #expect(link.largeReads == [2], "what is under way fills the window for large ones")
    link.rows([7], rank: 99)
    #expect(link.deliveredSeqs == [4, 5, 6, 7], "the control: the other window is open")
    link.acknowledge([2], through: 2)
    #expect(link.largeReads == [2, 1])
    // It has ended meanwhile; the read of the last one fails and is tried again.
    link.tell(.largeRead(nil))
    #expect(link.largeReads == [2, 1, 3])
    link.tell(.largeReadFailed)
    #expect(link.largeReads == [2, 1, 3])
    link.tick(ms: LinkLimits.sweepMs)
    #expect(link.largeReads == [2, 1, 3, 3])
  }

  @Test("an envelope larger than a frame goes in parts, and small ones pass between them")
  func parts() throws {
    var link = try TestLink.established()
    link.rows([1], bytes: 2 << 20)
    link.rows([2], bytes: 100)
    while link.machine.wantsToWrite { link.tell(.writabilityChanged(true)) }
    let types = link.sentTypes.filter { $0 != .hello }
    #expect(types.count { $0 == .part } == 9)
    #expect(types.count { $0 == .deliver } == 1)
    let delivered = try #require(types.firstIndex(of: .deliver))
    #expect(types[..<delivered].contains(.part) && types[delivered...].contains(.part))
    let parts = try link.frames(.part).map { try PartFrame(parsing: $0) }
    let whole = try DeliverFrame(parsing: parts.flatMap { Array($0.bytes) }[...])
    #expect(whole.firstSeq == 1 && whole.envelopes[0].count == 2 << 20)
  }

  @Test("without the parts feature a large envelope is refused and the rest goes on")
  func noParts() throws {
    var link = try TestLink.established { $0.features = [.deliver] }
    link.rows([
      OutboundRow(seq: 1, bytes: [UInt8](repeating: 0, count: 2 << 20), senderKid: .zero),
      OutboundRow(seq: 2, bytes: [1], senderKid: .zero),
    ])
    #expect(link.settled.map(\.items.first?.code) == [.tooLarge])
    #expect(link.deliveredSeqs == [2])
  }
}
