import EngramCore
import TestSupport
import Testing

@Suite("Properties of every codec")
struct CodecPropertyTests {
  @Test(
    "what is encoded parses to the same value and encodes to the same bytes", arguments: StructureCodec.all)
  func roundTrip(codec: StructureCodec) throws {
    var generator = SeededGenerator(name: codec.name)
    for _ in 0..<100 {
      let made = codec.make(&generator)
      let again = try codec.reencode(made.bytes)
      #expect(again.bytes == made.bytes)
      #expect(again.description == made.description)
    }
  }

  @Test("every truncation and every added byte is refused", arguments: StructureCodec.all)
  func truncation(codec: StructureCodec) throws {
    var generator = SeededGenerator(name: "cut \(codec.name)")
    for _ in 0..<5 {
      let bytes = codec.make(&generator).bytes
      #expect(throws: Never.self) { try codec.reencode(bytes) }
      #expect(throws: CodecError.self) { try codec.reencode(bytes + [0]) }
      for count in 0..<bytes.count {
        let cut = Array(bytes.prefix(count))
        if codec.endsAnywhere, let again = try? codec.reencode(cut) {
          #expect(again.bytes == cut)
        } else {
          #expect(throws: CodecError.self) { try codec.reencode(cut) }
        }
      }
    }
  }

  @Test("no input crashes a parser, and whatever parses is the one encoding of its value", arguments: 0..<8)
  func mutations(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var accepted = 0
    for _ in 0..<2_500 {
      let codec = generator.one(of: StructureCodec.all)
      let bytes = mutate(codec.make(&generator).bytes, &generator)
      guard let again = try? codec.reencode(bytes) else { continue }
      accepted += 1
      guard again.bytes != bytes else { continue }
      if codec.takesUnknownCodes, again.bytes.count == bytes.count {
        // At most four codes of two bytes each, and the second reading changes nothing more.
        let differing = zip(again.bytes, bytes).count { $0 != $1 }
        if differing <= 8, (try? codec.reencode(again.bytes))?.bytes == again.bytes { continue }
      }
      Issue.record("\(codec.name) has two encodings: \(hex(bytes))")
    }
    // A mutation of a hash or a time is well formed; if none were, the property would hold for nothing.
    #expect(accepted > 100)
  }

  /// One to three changes of a kind that parsers get wrong: bits, cuts, insertions, repetitions, lengths,
  /// noise.
  private func mutate(_ original: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
    var bytes = original
    for _ in 0...generator.count(upTo: 2) {
      guard !bytes.isEmpty else { return generator.shortBytes(upTo: 100) }
      let place = Int.random(in: 0..<bytes.count, using: &generator)
      switch Int.random(in: 0..<9, using: &generator) {
      case 0, 1, 2: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 3: bytes.removeSubrange(place...)
      case 4: bytes.insert(contentsOf: generator.shortBytes(upTo: 6), at: place)
      case 5: bytes.insert(contentsOf: bytes[place...].prefix(generator.count(upTo: 60)), at: place)
      case 6: bytes.removeSubrange(place..<min(bytes.count, place + 1 + generator.count(upTo: 5)))
      case 7:
        let length = generator.one(of: [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] as [UInt32])
        withUnsafeBytes(of: length.bigEndian) {
          bytes.replaceSubrange(place..<min(bytes.count, place + 4), with: $0)
        }
      default: bytes = generator.shortBytes(upTo: 200)
      }
    }
    return bytes
  }

  @Test("random bytes crash no parser", arguments: StructureCodec.all)
  func noise(codec: StructureCodec) {
    var generator = SeededGenerator(name: "noise \(codec.name)")
    for _ in 0..<400 { _ = try? codec.reencode(generator.shortBytes(upTo: 120)) }
  }
}

@Suite("Bounds and tables of frames and receipts")
struct FrameTests {
  @Test("an ack whose entries do not ascend is refused: nobody is answered twice")
  func ackOrder() throws {
    let id = NodeID(.zero)
    func parse(_ seqs: [UInt64]) throws {
      let items = seqs.map { AckFrame.Item(seq: $0, outcome: .accepted) }
      let frame = AckFrame(origin: id, destination: id, epoch: 1, through: 9, items: items)
      #expect(try AckFrame(parsing: frame.encoded()[...]).items.map(\.seq) == seqs)
    }
    for seqs in [[1, 1], [2, 1], [1, 3, 2], [.max, 0]] as [[UInt64]] {
      #expect(throws: CodecError.nonCanonical) { try parse(seqs) }
    }
    for seqs in [[], [1], [1, 2, 7, .max]] as [[UInt64]] { try parse(seqs) }
  }

  @Test("a code that a later version added is read as one of its group, and ends no link")
  func unknownCodes() throws {
    let id = NodeID(.zero)
    let expected: [(UInt16, ErrorCode)] = [
      (1, .malformed), (199, .malformed), (299, .badCertificate), (399, .replayWindowClosed),
      (499, .notPermitted), (599, .peerUnreachable), (699, .internalError), (799, .unsealFailed),
      (.max, .internalError),
    ]
    for (number, code) in expected {
      #expect(ErrorCode(rawValue: number) == nil)
      func replaced(_ bytes: [UInt8]) throws -> [UInt8] {
        // The field of the one code in it: a length of two, then `none` as 0.
        var bytes = bytes
        let field: [UInt8] = [0, 0, 0, 2, 0, 0]
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: field) })
        bytes.replaceSubrange(place + 4..<place + 6, with: [UInt8(number >> 8), UInt8(number & 0xff)])
        return bytes
      }
      let ack = AckFrame(
        origin: id, destination: id, epoch: 1, through: 9, items: [AckFrame.Item(seq: 1, outcome: .refused)])
      #expect(try AckFrame(parsing: replaced(ack.encoded())[...]).items.map(\.code) == [code])
      let goodbye = GoodbyeFrame(code: .none)
      #expect(try GoodbyeFrame(parsing: replaced(goodbye.encoded())[...]).code == code)
      let answer = DirectoryAnswerFrame(request: 1, code: .none, answer: [])
      #expect(try DirectoryAnswerFrame(parsing: replaced(answer.encoded())[...]).code == code)
      #expect(
        try ItemOutcome.decode(replaced(ItemOutcome.encode([ItemOutcome(.refused)]))[...])[0].code == code)
    }
    for code in ErrorCode.allCases { #expect(ErrorCode(received: code.rawValue) == code, "control") }
    // What to do is never guessed: an unknown outcome still ends the link.
    var bytes = AckFrame(
      origin: id, destination: id, epoch: 1, through: 9, items: [AckFrame.Item(seq: 1, outcome: .refused)]
    ).encoded()
    let outcome: [UInt8] = [0, 0, 0, 1, 3]
    let place = try #require(bytes.indices.first { bytes[$0...].starts(with: outcome) })
    bytes[place + 4] = 9
    #expect(throws: CodecError.unknownValue) { try AckFrame(parsing: bytes[...]) }
  }

  @Test("a deliver frame with no envelope, too many, or a number that would overflow is refused")
  func deliver() throws {
    let id = NodeID(.zero)
    func frame(count: Int, firstSeq: UInt64) -> [UInt8] {
      DeliverFrame(
        origin: id, destination: id, epoch: 1, firstSeq: firstSeq,
        envelopes: [ArraySlice<UInt8>](repeating: [1], count: count)
      ).encoded()
    }
    #expect(try DeliverFrame(parsing: frame(count: 1_000, firstSeq: 1)[...]).envelopes.count == 1_000)
    #expect(throws: CodecError.tooLarge) { try DeliverFrame(parsing: frame(count: 0, firstSeq: 1)[...]) }
    #expect(throws: CodecError.tooLarge) { try DeliverFrame(parsing: frame(count: 1_001, firstSeq: 1)[...]) }
    #expect(throws: CodecError.nonCanonical) { try DeliverFrame(parsing: frame(count: 1, firstSeq: 0)[...]) }
    #expect(throws: CodecError.nonCanonical) {
      try DeliverFrame(parsing: frame(count: 1, firstSeq: .max)[...])
    }
    let one = frame(count: 1, firstSeq: 1)
    #expect(one.count == DeliverFrame.overheadBytes + 5)
  }

  @Test("a part lies inside its total, is not empty, and no total is larger than an envelope may be")
  func parts() throws {
    func verdict(total: UInt32, offset: UInt32, count: Int) -> CodecError? {
      let part = PartFrame(
        stream: 1, firstSeq: 1, total: total, offset: offset, bytes: [UInt8](repeating: 0, count: count)[...])
      do throws(CodecError) {
        return try PartFrame(parsing: part.encoded()[...]) == part ? nil : .truncated
      } catch {
        return error
      }
    }
    #expect(verdict(total: 10, offset: 5, count: 5) == nil)
    #expect(verdict(total: 10, offset: 6, count: 5) == .nonCanonical)
    #expect(verdict(total: 10, offset: .max, count: 5) == .nonCanonical)
    #expect(verdict(total: 10, offset: 10, count: 0) == .nonCanonical)
    #expect(verdict(total: .max, offset: 0, count: 5) == .tooLarge)
    #expect(verdict(total: 1 << 20, offset: 0, count: Limits.partBytesMax) == nil)
    #expect(verdict(total: 1 << 20, offset: 0, count: Limits.partBytesMax + 1) == .tooLarge)
  }

  @Test("a receipt's state fits its role, and a device's receipt names the device's own client")
  func receiptForm() throws {
    let (sender, recipient) = (try Address("a@b.c"), try Address("d@e.f"))
    func verdict(
      _ role: ReceiptRole, _ state: ReceiptState, issuer: String, recipient: Address?, kid: Kid? = .zero
    ) -> CodecError? {
      let body = ReceiptBody(
        role: role, issuerName: issuer, issuerKey: .zero, envelope: .zero, sender: sender, senderKid: .zero,
        messageID: .zero, recipient: recipient, recipientKid: kid, state: state, atMs: 1)
      do throws(CodecError) {
        return try ReceiptBody(parsing: body.encoded()[...]) == body ? nil : .truncated
      } catch {
        return error
      }
    }
    let nodes: [ReceiptState: Set<ReceiptRole>] = [
      .accepted: [.homeNode, .recipientNode], .admitted: [.homeNode, .recipientNode],
      .delivered: [.recipientNode],
      .processed: [.device], .failed: [.homeNode, .recipientNode, .device],
      .expired: [.homeNode, .recipientNode],
      .deadLettered: [.homeNode, .recipientNode], .cancelled: [.homeNode, .recipientNode],
    ]
    #expect(nodes.count == ReceiptState.allCases.count)
    for (state, roles) in nodes {
      for role in [ReceiptRole.homeNode, .recipientNode, .device] {
        let issuer = role == .device ? recipient.text : "e.f"
        #expect((verdict(role, state, issuer: issuer, recipient: recipient) == nil) == roles.contains(role))
      }
    }
    #expect(verdict(.device, .processed, issuer: sender.text, recipient: recipient) == .nonCanonical)
    #expect(verdict(.device, .processed, issuer: "", recipient: nil, kid: nil) == .nonCanonical)
    #expect(verdict(.homeNode, .accepted, issuer: "B.c", recipient: nil, kid: nil) == .nonCanonical)
    #expect(verdict(.homeNode, .accepted, issuer: "b.c", recipient: recipient, kid: nil) == .nonCanonical)
    #expect(verdict(.homeNode, .accepted, issuer: "b.c", recipient: nil, kid: nil) == nil)
  }

  @Test("a header of the largest kind stays below its bound")
  func largestHeader() throws {
    var generator = SeededGenerator(seed: 11)
    var header = generator.header(recipients: Limits.recipientsMax)
    let node = try NodeName(String(repeating: "b.", count: 126) + "c")
    let long = try Address(name: String(repeating: "a", count: 63), node: node)
    for index in header.recipients.indices { header.recipients[index].address = long }
    header.recipients.sort { Recipient.precedes($0, $1) }
    let bytes = header.encoded()
    #expect(bytes.count <= Limits.headerBytesMax)
    #expect(try EnvelopeHeader(parsing: bytes[...]) == header)
    header.recipients.append(generator.recipient())
    header.recipients.sort { Recipient.precedes($0, $1) }
    #expect(throws: CodecError.tooLarge) { try EnvelopeHeader(parsing: header.encoded()[...]) }
  }
}
