import EngramCore
import EngramCrypto
import EngramTLS
import Foundation
import TestSupport
import Testing

/// A first frame, and the code with which the node turns it away.
private struct HelloAttack: Sendable {
  let name: String
  let code: ErrorCode
  let perform: @Sendable (RawLink, RoguePeer) async throws -> Void

  init(
    _ name: String, _ code: ErrorCode, perform: @escaping @Sendable (RawLink, RoguePeer) async throws -> Void
  ) {
    (self.name, self.code, self.perform) = (name, code, perform)
  }

  /// A hello that is signed as it should be, over a body that is not.
  init(_ name: String, _ code: ErrorCode, change: @escaping @Sendable (inout HelloBody) throws -> Void) {
    self.init(name, code) { link, rogue in
      let hello = try rogue.hello(on: link) { try? change(&$0) }
      try await link.send(.hello, hello)
    }
  }

  static let all: [HelloAttack] = [
    HelloAttack("no signature", .helloInvalid) { link, rogue in
      let hello = try rogue.hello(on: link)
      try await link.send(.hello, Array(hello.dropLast(64)) + [UInt8](repeating: 0, count: 64))
    },
    HelloAttack("a body without its signature field", .helloInvalid) { link, rogue in
      try await link.send(.hello, Array(try rogue.hello(on: link).dropLast(68)))
    },
    HelloAttack("bytes after the signature", .helloInvalid) { link, rogue in
      try await link.send(.hello, try rogue.hello(on: link) + [0])
    },
    HelloAttack("a signature by another key", .helloInvalid) { link, rogue in
      try await link.send(.hello, try rogue.hello(on: link, key: signingKey(named: "somebody else")))
    },
    HelloAttack("the right certificate with the wrong node id", .wrongPeer) { link, rogue in
      let other = signingKey(named: "somebody else")
      try await link.send(
        .hello, try rogue.hello(on: link, key: other) { $0.nodeID = NodeID(other.publicKey) })
    },
    HelloAttack("another node's name", .wrongPeer) { $0.name = try NodeName("globex.example") },
    HelloAttack("words meant for another node", .wrongPeer) { $0.peerName = try NodeName("globex.example") },
    HelloAttack("words meant for another node id", .wrongPeer) { $0.peerNodeID = $0.nodeID },
    HelloAttack("the listener's role", .helloInvalid) { $0.role = .listener },
    HelloAttack("another version", .versionMismatch) { $0.version = 2 },
    HelloAttack("a clock that is six minutes ahead", .helloSkew) { $0.nowMs += 6 * 60_000 },
    HelloAttack("a clock that is six minutes behind", .helloSkew) { $0.nowMs -= 6 * 60_000 },
    HelloAttack("a window of nothing", .helloInvalid) { $0.window = 0 },
    HelloAttack("a delivery in its place", .unexpectedFrame) { link, rogue in
      try await link.send(.deliver, [UInt8](repeating: 0, count: 100))
    },
    HelloAttack("a ping in its place", .unexpectedFrame) { link, _ in try await link.send(.ping) },
    HelloAttack("an unknown frame in its place", .unknownFrame) { link, _ in try await link.send(99, []) },
  ]
}

@Suite("bad hellos and bad certificates", .serialized, .timeLimit(.minutes(5)))
struct BadHelloScenarios {
  @Test("a hello that proves nothing is turned away by its code, and learns nothing")
  func badHellos() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    for attack in HelloAttack.all {
      let link = try await rogue.connect()
      try await attack.perform(link, rogue)
      let code = await link.goodbye()
      #expect(code == attack.code, "\(attack.name): \(String(describing: code))")
      #expect(!link.frameTypes.contains(FrameType.hello.rawValue), "\(attack.name): the node said hello")
    }
    try await bystanders.expectUnharmed(after: "bad hellos")
    // The control: the honest hello is answered.
    _ = try await rogue.established()
  }

  @Test("a hello that was recorded on one connection is worth nothing on another")
  func replayed() async throws {
    let acme = try await Organisation.running("acme.example")
    let rogue = try await RoguePeer(against: acme)
    let first = try await rogue.connect()
    let hello = try rogue.hello(on: first)
    try await first.send(.hello, hello)
    #expect(await first.next(.hello) != nil)
    let second = try await rogue.connect()
    try await second.send(.hello, hello)
    #expect(await second.goodbye() == .helloInvalid)
    #expect(first.exporter != second.exporter)
  }

  @Test("federation without a certificate, or with one that nobody here trusts, ends in the handshake")
  func certificates() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let missing = try await RawLink.connect(to: acme, as: nil)
    #expect(await missing.goodbye() == nil)
    #expect(missing.error == .alertReceived(alert: 116) || missing.error == .handshakeRefused(alert: 116))

    // The same name under an authority of the attacker's own.
    let forger = try await Organisation("rogue.example")
    // A genuine certificate of an organisation that is no peer.
    let stranger = try await Organisation("stranger.example")
    for foreign in [forger, stranger] {
      let link = try await rogue.connect(as: foreign.certificate)
      _ = await link.goodbye()
      guard case .alertReceived? = link.error else {
        Issue.record("\(foreign.name): \(String(describing: link.error))")
        continue
      }
      #expect(link.frameTypes.isEmpty)
    }
    try await bystanders.expectUnharmed(after: "foreign certificates")
  }

  @Test("another protocol than ours, and TLS before 1.3, end in the handshake")
  func protocols() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let wrong = try await RawLink.connect(to: acme, as: rogue.own.certificate, protocols: ["engram/9"])
    #expect(wrong.error == .noApplicationProtocol || wrong.error == .handshakeRefused(alert: 120))

    func handshake(_ version: String) async throws -> Finished {
      try await runTool(
        "/usr/bin/openssl",
        [
          "s_client", "-connect", "127.0.0.1:\(acme.port)", version, "-alpn", "http/1.1", "-CAfile",
          acme.authority,
          "-servername", acme.name.text,
        ], input: "")
    }
    let old = try await handshake("-tls1_2")
    #expect(!old.succeeded && old.errors.contains("alert protocol version"), "\(old.errors)")
    // The control: 1.3 from the same tool.
    let new = try await handshake("-tls1_3")
    #expect(new.succeeded && new.output.contains("TLSv1.3"), "\(new.errors)")
    try await bystanders.expectUnharmed(after: "old protocols")
  }

  @Test("somebody who connects and says nothing is not kept, and keeps nobody out")
  func silence() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    var silent: [RawLink] = []
    for _ in 0..<12 { silent.append(try await rogue.connect()) }
    try await bystanders.expectUnharmed(after: "twelve silent links")
    // More than may be unproven were turned away at once; the others run into the time limit of a hello.
    for link in silent { _ = await link.goodbye() }
    _ = try await rogue.established()
  }
}
