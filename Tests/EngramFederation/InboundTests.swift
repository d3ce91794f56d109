import EngramCore
import EngramFederation
import TestSupport
import Testing

@Suite("Deliveries from the peer")
struct InboundTests {
  @Test("nothing is acknowledged before its commit")
  func ackAfterCommit() throws {
    var link = try TestLink.established()
    link.deliver(1, [[1], [2]])
    let batch = try #require(link.accepted.first)
    #expect(link.acks.isEmpty)
    link.tell(.batchVerified)
    #expect(link.acks.isEmpty)
    link.commit(batch)
    #expect(link.acks.map(\.through) == [2])
    #expect(link.acks.first?.items.map(\.seq) == [1, 2])
  }

  @Test("batches are verified one after the other and committed side by side")
  func pipelining() throws {
    var link = try TestLink.established()
    link.deliver(1, [[1]])
    link.deliver(2, [[2]])
    #expect(link.accepted.map(\.seqs) == [[1]])
    link.tell(.batchVerified)
    #expect(link.accepted.map(\.seqs) == [[1], [2]])
    #expect(link.acks.isEmpty)
  }

  @Test("a batch that is turned away at once acknowledges nothing")
  func outOfOrderCommits() throws {
    var link = try TestLink.established()
    link.deliver(1, [[1]])
    link.tell(.batchVerified)
    link.deliver(2, [[2]])
    let batches = link.accepted
    link.tell(.batchCommitted(batches[1], [AckFrame.Item(seq: 2, outcome: .later, code: .overloaded)]))
    #expect(link.acks.map(\.through) == [0])
    link.tell(.batchCommitted(batches[0], [AckFrame.Item(seq: 1, outcome: .accepted)]))
    #expect(link.acks.map(\.through) == [0, 1])
  }

  @Test("envelopes wait until the certificates before them are stored")
  func certificatesFirst() throws {
    var link = try TestLink.established()
    let learned = {
      (link: TestLink) in
      var copy = link
      return copy.take().count { if case .learn = $0 { true } else { false } }
    }
    let item = CertificateItem(certificate: [1], deviceList: [2]).encoded()
    link.receive(.certificate, item)
    link.receive(.certificate, item)
    link.deliver(1, [[1]])
    #expect(learned(link) == 2, "they are learned together")
    #expect(link.accepted.isEmpty)
    link.tell(.certificateLearned(.none))
    #expect(link.accepted.isEmpty)
    link.tell(.certificateLearned(.badCertificate))
    #expect(link.accepted.map(\.seqs) == [[1]], "a bad one is for the envelope to fail on")
  }

  @Test("a certificate that we cannot store ends the link, so that it comes again")
  func certificateNotStored() throws {
    var link = try TestLink.established()
    link.receive(.certificate, CertificateItem(certificate: [1], deviceList: [2]).encoded())
    link.tell(.certificateLearned(.storageFull))
    #expect(link.end == .closedByUs(.storageFull))
  }

  @Test("more than the window ends the link, exactly the window does not")
  func window() throws {
    var settings = LinkSettings()
    settings.windowMessages = 4
    var link = try TestLink.established(settings: settings)
    link.deliver(1, [[1], [2], [3], [4]])
    #expect(link.end == nil)
    link.deliver(5, [[5]])
    #expect(link.end == .closedByUs(.windowExceeded))
  }

  @Test("the window is free again once messages are acknowledged")
  func windowReopens() throws {
    var settings = LinkSettings()
    settings.windowMessages = 2
    var link = try TestLink.established(settings: settings)
    for first in stride(from: UInt64(1), to: 9, by: 2) {
      link.deliver(first, [[1], [2]])
      link.commit(try #require(link.accepted.last))
    }
    #expect(link.end == nil)
    #expect(link.acks.map(\.through) == [2, 4, 6, 8])
  }

  @Test("a number that comes again before it is answered ends the link, a lower one does not")
  func repeated() throws {
    for (seq, end) in [(1, nil), (2, .closedByUs(.nonCanonical)), (3, .closedByUs(.nonCanonical))]
      as [(UInt64, LinkEnd?)]
    {
      var link = try TestLink.established()
      link.deliver(2, [[1], [2]])
      link.deliver(seq, [[3]])
      #expect(link.end == end)
    }
    var link = try TestLink.established()
    link.deliver(2, [[1]])
    link.commit(try #require(link.accepted.first))
    link.deliver(2, [[1]])
    #expect(link.end == nil, "the control: once it is answered, its sender may have reason to ask again")
  }

  @Test("small frames that wait while another is verified are worked off together, and answered in order")
  func joined() throws {
    var link = try TestLink.established()
    for seq in [9, 7, 3, 8] as [UInt64] { link.deliver(seq, [[UInt8(seq)]]) }
    #expect(link.accepted.map(\.seqs) == [[9]])
    link.commit(link.accepted[0])
    #expect(link.accepted.map(\.seqs) == [[9], [7, 3, 8]])
    #expect(link.accepted[1].envelopes.map { Array($0) } == [[7], [3], [8]])
    link.commit(link.accepted[1])
    #expect(link.acks.map { $0.items.map(\.seq) } == [[9], [3, 7, 8]])
    #expect(link.acks.map(\.through) == [9, 9], "the highest that is decided")
  }

  @Test("gaps are skipped rows: the number passes over them")
  func gaps() throws {
    var link = try TestLink.established()
    link.deliver(5, [[1]])
    link.commit(try #require(link.accepted.last))
    link.deliver(9, [[2]])
    link.commit(try #require(link.accepted.last))
    #expect(link.acks.map(\.through) == [5, 9])
  }

  @Test("a new link starts from what was committed before, in the same numbering only")
  func resumes() throws {
    for (epoch, through) in [(globexEpoch, 50), (globexEpoch + 1, 3)] as [(UInt64, UInt64)] {
      var link = try TestLink.established(
        numbers: LinkNumbers(outEpoch: acmeEpoch, inEpoch: globexEpoch, inThrough: 50)
      ) { $0.epoch = epoch }
      link.deliver(3, [[1]], epoch: epoch)
      link.commit(try #require(link.accepted.last))
      #expect(link.acks.map(\.through) == [through])
    }
  }

  @Test("another numbering, or a frame between other nodes, ends the link")
  func foreignFrames() throws {
    var link = try TestLink.established()
    link.deliver(1, [[1]], epoch: globexEpoch + 1)
    #expect(link.end == .closedByUs(.nonCanonical))
    link = try TestLink.established()
    var frame = link.deliverFrame(1, [[1]])
    frame.destination = link.nodes.globex.id
    link.receive(.deliver, frame.encoded())
    #expect(link.end == .closedByUs(.wrongPeer))
  }

  @Test("outcomes with long receipts are split into frames of bounded size")
  func longAcks() throws {
    var link = try TestLink.established()
    link.deliver(1, Array(repeating: [1], count: 1_000))
    link.commit(try #require(link.accepted.first), receiptBytes: 1_100)
    #expect(link.acks.count > 1)
    #expect(link.frames(.ack).allSatisfy { $0.count < Limits.frameBytesMax })
    #expect(link.acks.flatMap(\.items).map(\.seq) == Array(1...1_000))
    #expect(link.acks.allSatisfy { $0.through == 1_000 }, "all of it is on disk by then")
  }

  @Test("reading pauses while too many bytes are undecided")
  func backPressure() throws {
    var link = try TestLink.established()
    var seq: UInt64 = 1
    while !link.machine.isReadingPaused, seq < 200 {
      link.deliver(seq, [[UInt8](repeating: 0, count: 900_000)])
      seq += 1
    }
    #expect(link.machine.isReadingPaused)
    #expect(link.end == nil)
    while link.machine.isReadingPaused { link.commit(try #require(link.accepted.last)) }
    #expect(link.acks.count > 0)
  }

  @Test("a silence that we impose ourselves does not count against the peer")
  func pausedIsNotSilent() throws {
    var link = try TestLink.established()
    for seq in 1...40 { link.deliver(UInt64(seq), [[UInt8](repeating: 0, count: 900_000)]) }
    #expect(link.machine.isReadingPaused)
    for _ in 0..<20 { link.tick(ms: 15_000) }
    #expect(link.end == nil)
  }
}

@Suite("Envelopes in parts")
struct PartTests {
  private func parts(_ link: TestLink, seq: UInt64, bytes: Int, stream: UInt32 = 1, size: Int = 250_000)
    -> [PartFrame]
  {
    let whole = link.deliverFrame(seq, [[UInt8](repeating: 5, count: bytes)]).encoded()
    return stride(from: 0, to: whole.count, by: size).map { offset in
      PartFrame(
        stream: stream, firstSeq: seq, total: UInt32(whole.count), offset: UInt32(offset),
        bytes: whole[offset..<min(offset + size, whole.count)])
    }
  }

  @Test("parts become the envelope that they were")
  func reassembly() throws {
    var link = try TestLink.established()
    for part in parts(link, seq: 3, bytes: 2_000_000) { link.receive(.part, part.encoded()) }
    #expect(link.accepted.map(\.seqs) == [[3]])
    #expect(link.accepted.first?.envelopes.first?.count == 2_000_000)
    #expect(link.accepted.first?.envelopes.first?.allSatisfy { $0 == 5 } == true)
  }

  @Test("an envelope that is still arriving holds nobody up")
  func smallOnesPass() throws {
    var link = try TestLink.established()
    let large = parts(link, seq: 3, bytes: 700_000)
    link.receive(.part, large[0].encoded())
    link.deliver(4, [[1], [2]])
    link.commit(try #require(link.accepted.last))
    #expect(link.acks.flatMap(\.items).map(\.seq) == [4, 5])
    for part in large.dropFirst() { link.receive(.part, part.encoded()) }
    link.commit(try #require(link.accepted.last))
    #expect(link.acks.flatMap(\.items).map(\.seq) == [4, 5, 3])
  }

  @Test("two envelopes may arrive at the same time, three may not")
  func interleaving() throws {
    var link = try TestLink.established()
    let first = parts(link, seq: 1, bytes: 700_000, stream: 1)
    let second = parts(link, seq: 2, bytes: 700_000, stream: 2)
    for (a, b) in zip(first, second) {
      link.receive(.part, a.encoded())
      link.receive(.part, b.encoded())
    }
    link.tell(.batchVerified)
    #expect(link.accepted.map(\.seqs) == [[1], [2]])
    for stream in 3...5 as ClosedRange<UInt32> {
      #expect(link.end == nil)
      link.receive(.part, parts(link, seq: UInt64(stream), bytes: 700_000, stream: stream)[0].encoded())
    }
    #expect(link.end == .closedByUs(.windowExceeded))
  }

  @Test(
    "parts out of order, overlapping, with a hole, or with another total or number are refused",
    arguments: ["order", "overlap", "hole", "total", "number", "start"])
  func wrongParts(kind: String) throws {
    var link = try TestLink.established()
    let good = parts(link, seq: 3, bytes: 700_000)
    var second = good[1]
    switch kind {
    case "order": second = good[2]
    case "overlap": second.offset -= 1
    case "hole": second.offset += 1
    case "total": second.total += 1
    case "number": second.firstSeq += 1
    default: break
    }
    if kind != "start" { link.receive(.part, good[0].encoded()) }
    link.receive(.part, second.encoded())
    #expect(link.end == .closedByUs(.nonCanonical))
    #expect(link.accepted.isEmpty)
  }

  @Test("an announced total beyond the largest envelope is refused at once")
  func oversize() throws {
    var link = try TestLink.established()
    var part = parts(link, seq: 3, bytes: 700_000)[0]
    part.total = UInt32(Limits.envelopeBytesMax + 1_000)
    link.receive(.part, part.encoded())
    #expect(link.end == .closedByUs(.tooLarge))
  }

  @Test("parts of a frame with another number, or with two envelopes, are refused")
  func wrongContents() throws {
    for (claimed, envelopes) in [(UInt64(4), 1), (3, 2)] {
      var link = try TestLink.established()
      let whole = link.deliverFrame(3, Array(repeating: [1, 2, 3], count: envelopes)).encoded()
      link.receive(
        .part,
        PartFrame(stream: 1, firstSeq: claimed, total: UInt32(whole.count), offset: 0, bytes: whole[...])
          .encoded())
      #expect(link.end == .closedByUs(.nonCanonical))
    }
  }

  @Test("parts count against the window from the first one on")
  func window() throws {
    var settings = LinkSettings()
    settings.windowMessages = 1
    var link = try TestLink.established(settings: settings)
    link.receive(.part, parts(link, seq: 1, bytes: 700_000)[0].encoded())
    link.deliver(2, [[1]])
    #expect(link.end == .closedByUs(.windowExceeded))
  }
}
