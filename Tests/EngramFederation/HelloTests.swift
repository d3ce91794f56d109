import EngramCore
import EngramCrypto
import EngramFederation
import TestSupport
import Testing

@Suite("Hello")
struct HelloTests {
  private func listener(receiving hello: [UInt8]) throws -> TestLink {
    var link = try TestLink(.listener)
    link.tell(.opened)
    link.receive(.hello, hello)
    return link
  }

  @Test("the dialler speaks first, and only after it read its numbers")
  func diallerSpeaksFirst() throws {
    var link = try TestLink(.dialler)
    link.tell(.opened)
    #expect(link.sentTypes.isEmpty)
    link.tell(.numbersLoaded(LinkNumbers(outEpoch: acmeEpoch, inEpoch: globexEpoch, inThrough: 5)))
    #expect(link.sentTypes == [.hello])
    let hello = try verifyHello(
      try #require(link.frames(.hello).first), exporter: link.nodes.exporter, pinned: link.nodes.acme.id)
    #expect(hello.role == .dialler && hello.through == 5 && hello.throughEpoch == globexEpoch)
    #expect(hello.epoch == acmeEpoch)
  }

  @Test("the listener is silent until it verified the dialler's hello and may keep the link")
  func listenerAnswersLast() throws {
    var link = try TestLink(.listener)
    link.tell(.opened)
    link.receive(.hello, link.nodes.signed(link.nodes.hello(.dialler)))
    #expect(link.sentTypes.isEmpty)
    link.tell(.claimed(.granted(replacedOther: false)))
    #expect(link.sentTypes.isEmpty)
    link.tell(.numbersLoaded(LinkNumbers(outEpoch: acmeEpoch)))
    #expect(link.sentTypes == [.hello])
    #expect(link.isEstablished)
  }

  @Test(
    "a hello with one wrong field is refused with its code, and an untouched one is not",
    arguments: [
      ("nothing", ErrorCode.none), ("name", .wrongPeer), ("peer name", .wrongPeer), ("peer id", .wrongPeer),
      ("own id", .wrongPeer), ("role", .helloInvalid), ("version", .versionMismatch), ("ahead", .helloSkew),
      ("behind", .helloSkew), ("frame", .helloInvalid), ("window", .helloInvalid),
    ])
  func wrongFields(field: String, code: ErrorCode) throws {
    let nodes = try TwoNodes()
    let stranger = try TestNode("evil.example")
    let body = nodes.hello(.dialler) { hello in
      switch field {
      case "name": hello.name = stranger.name
      case "peer name": hello.peerName = stranger.name
      case "peer id": hello.peerNodeID = stranger.id
      case "own id": hello.nodeID = stranger.id
      case "role": hello.role = .listener
      case "version": hello.version = 2
      case "ahead": hello.nowMs += Limits.clockSkewMs + 1
      case "behind": hello.nowMs -= Limits.clockSkewMs + 1
      case "frame": hello.maxFrame = 1_000
      case "window": hello.window = 0
      default: break
      }
    }
    let key = field == "own id" ? stranger.key : nodes.globex.key
    let link = try listener(receiving: signHello(body, exporter: nodes.exporter, key: key))
    #expect(link.goodbye == (code == .none ? nil : code))
    #expect(link.end == (code == .none ? nil : .closedByUs(code)))
    #expect(!link.sentTypes.contains(.hello))
  }

  @Test("five minutes of skew are still accepted")
  func skewAtTheLimit() throws {
    let nodes = try TwoNodes()
    let body = nodes.hello(.dialler) { $0.nowMs += Limits.clockSkewMs }
    #expect(try listener(receiving: nodes.signed(body)).end == nil)
  }

  @Test("a hello that was signed for another connection is refused")
  func replayed() throws {
    let nodes = try TwoNodes()
    let elsewhere = signHello(
      nodes.hello(.dialler), exporter: [UInt8](repeating: 8, count: 32), key: nodes.globex.key)
    #expect(try listener(receiving: elsewhere).end == .closedByUs(.helloInvalid))
    #expect(try listener(receiving: nodes.signed(nodes.hello(.dialler))).end == nil, "the control")
  }

  @Test("an unsigned hello is refused")
  func unsigned() throws {
    let nodes = try TwoNodes()
    let bare = SignedBytes(
      body: nodes.hello(.dialler).encoded(), signatures: [[UInt8](repeating: 0, count: 64)]
    ).encoded()
    #expect(try listener(receiving: bare).end == .closedByUs(.helloInvalid))
  }

  @Test("a hello signed with another key under the right name is refused")
  func foreignKey() throws {
    let nodes = try TwoNodes()
    let forged = signHello(
      nodes.hello(.dialler), exporter: nodes.exporter, key: try TestNode("evil.example").key)
    #expect(try listener(receiving: forged).end == .closedByUs(.helloInvalid))
  }

  @Test("a truncated hello and one with trailing bytes are refused")
  func malformed() throws {
    let nodes = try TwoNodes()
    let good = nodes.signed(nodes.hello(.dialler))
    #expect(try listener(receiving: Array(good.dropLast())).end == .closedByUs(.helloInvalid))
    #expect(try listener(receiving: good + [0]).end == .closedByUs(.helloInvalid))
  }

  @Test("a second hello ends the link")
  func secondHello() throws {
    var link = try TestLink.established()
    link.receive(.hello, link.nodes.signed(link.nodes.hello(.dialler)))
    #expect(link.end == .closedByUs(.unexpectedFrame))
  }

  @Test("any other frame before the hello ends the link", arguments: FrameType.allCases)
  func otherFrameFirst(type: FrameType) throws {
    guard type != .hello, type != .goodbye else { return }
    var link = try TestLink(.listener)
    link.tell(.opened)
    link.receive(type)
    #expect(link.end == .closedByUs(.unexpectedFrame))
  }

  @Test("a dialler may not send on before the listener answered")
  func impatientDialler() throws {
    var link = try TestLink(.listener)
    link.tell(.opened)
    link.receive(.hello, link.nodes.signed(link.nodes.hello(.dialler)))
    link.receive(.ping)
    #expect(link.end == .closedByUs(.unexpectedFrame))
  }

  @Test("what a listener sends right behind its hello waits until the dialler is ready")
  func heldFrames() throws {
    var link = try TestLink(.dialler)
    link.tell(.opened)
    link.tell(.numbersLoaded(LinkNumbers(outEpoch: acmeEpoch)))
    link.receive(.hello, link.nodes.signed(link.nodes.hello(.listener)))
    link.deliver(1, [[1], [2]])
    #expect(link.machine.isReadingPaused)
    #expect(link.accepted.isEmpty)
    link.tell(.claimed(.granted(replacedOther: false)))
    link.tell(.numbersLoaded(LinkNumbers(outEpoch: acmeEpoch)))
    #expect(!link.machine.isReadingPaused)
    #expect(link.accepted.map(\.seqs) == [[1, 2]])
  }

  @Test("a peer that never says hello is dropped")
  func helloTimeout() throws {
    var link = try TestLink(.listener)
    link.tell(.opened)
    link.tick(ms: LinkLimits.helloTimeoutMs - 1)
    #expect(link.end == nil)
    link.tick(ms: 1)
    #expect(link.end == .closedByUs(.idleTimeout))
  }

  @Test("a link that may not live says goodbye with the reason")
  func duplicate() throws {
    var link = try TestLink(.listener)
    link.tell(.opened)
    link.receive(.hello, link.nodes.signed(link.nodes.hello(.dialler)))
    link.tell(.claimed(.refused(.duplicateLink)))
    #expect(link.goodbye == .duplicateLink)
    #expect(!link.sentTypes.contains(.hello))
  }

  // MARK: - Numbers

  @Test("a peer that committed more than we assigned shows that we were rolled back: a new numbering starts")
  func ownRollback() throws {
    var link = try TestLink.established(numbers: LinkNumbers(outEpoch: acmeEpoch, highestAssigned: 9)) {
      $0.through = 10
    }
    #expect(link.take().contains { if case .redrawEpoch = $0 { true } else { false } })
    #expect(!link.isEstablished)
    link.tell(.epochRedrawn)
    #expect(link.end == .closedByUs(.peerRolledBack))
  }

  @Test("a peer that forgot what it acknowledged is reported and served on")
  func peerRollback() throws {
    func reports(_ through: UInt64, epoch: UInt64 = acmeEpoch) throws -> Bool {
      let link = try TestLink.established(
        numbers: LinkNumbers(outEpoch: acmeEpoch, ackedThrough: 8, highestAssigned: 9)
      ) {
        $0.through = through
        $0.throughEpoch = epoch
      }
      #expect(link.isEstablished)
      var copy = link
      return copy.take().contains { if case .reportPeerRollback = $0 { true } else { false } }
    }
    #expect(try reports(7))
    #expect(try !reports(8), "the control: its number is ours")
    #expect(try !reports(0, epoch: 0), "a peer that never heard of this numbering lost nothing")
  }

  @Test("of two simultaneous links the one dialled by the smaller node id stays, on both sides alike")
  func duplicateRule() throws {
    let nodes = try TwoNodes()
    let (small, large) =
      nodes.acme.id < nodes.globex.id ? (nodes.acme.id, nodes.globex.id) : (nodes.globex.id, nodes.acme.id)
    // The small side dials a second link beside one that the large side dialled.
    #expect(newLinkWins(existing: .listener, new: .dialler, own: small, peer: large))
    #expect(newLinkWins(existing: .dialler, new: .listener, own: large, peer: small))
    // The other way round.
    #expect(!newLinkWins(existing: .dialler, new: .listener, own: small, peer: large))
    #expect(!newLinkWins(existing: .listener, new: .dialler, own: large, peer: small))
    // The same dialler comes again.
    for role in [LinkRole.dialler, .listener] {
      #expect(newLinkWins(existing: role, new: role, own: small, peer: large))
    }
  }
}
