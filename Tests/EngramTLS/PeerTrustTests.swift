import EngramTLS
import NIOCore
import Testing

@Suite("Trust in peers")
struct PeerTrustTests {
  let pki: TestPKI
  let store = TrustStore()
  let server: TLSConfiguration

  init() throws {
    pki = try TestPKI()
    for name in ["home", "peer", "other"] { try pki.authority(name) }
    try store.set(name: "peer.example", caPEM: pki.text("peer.ca.pem"))
    server = TLSConfiguration.server(
      identity: try pki.leaf("home", under: "home", dns: ["home.example"], ip: ["127.0.0.1"]),
      applicationProtocols: ["engram/1", "http/1.1"], clientCertificateRequired: ["engram/1"],
      verifier: store.verifier)
  }

  func dialler(_ identity: TLSConfiguration.Identity?) throws -> TLSConfiguration {
    let anchors = try TrustAnchors(pem: pki.text("home.ca.pem"))
    return TLSConfiguration.client(
      identity: identity, applicationProtocols: ["engram/1"], verifier: anchors.hostVerifier)
  }

  /// Connects with a certificate and returns what the server said; nil when it let the client in.
  func refusal(of identity: TLSConfiguration.Identity?) async throws -> (server: TLSError, client: TLSError)?
  {
    let listener = try await LoopbackServer.start(server)
    let client = try await LoopbackClient.connect(
      port: listener.port, dialler(identity), serverName: "home.example")
    let served = try await client.echoes("hello")
    if served { #expect(listener.seen.now.errors.isEmpty) } else { #expect(listener.seen.text.isEmpty) }
    await listener.stop()
    guard !served else { return nil }
    #expect(await eventually { listener.seen.now.inactive && client.seen.now.inactive })
    return (
      try #require(listener.seen.now.errors.first), try #require(client.seen.now.errors.first)
    )
  }

  @Test("control: the right name under the right authority is let in")
  func right() async throws {
    let identity = try pki.leaf("peer", under: "peer", dns: ["peer.example"])
    #expect(try await refusal(of: identity) == nil)
  }

  @Test("a client without certificate is refused")
  func missing() async throws {
    let refusal = try #require(try await refusal(of: nil))
    #expect(refusal.server == .peerCertificateMissing)
    #expect(refusal.client == .alertReceived(alert: 116))
  }

  @Test("the right name under another authority is refused")
  func wrongAuthority() async throws {
    let refusal = try #require(
      try await refusal(of: pki.leaf("peer", under: "other", dns: ["peer.example"])))
    guard case .peerNotTrusted(.untrusted) = refusal.server else {
      Issue.record("unexpected \(refusal.server)")
      return
    }
    #expect(refusal.client == .alertReceived(alert: 48))
  }

  @Test("a name that is no peer's is refused, although its authority is trusted for a peer")
  func wrongName() async throws {
    let refusal = try #require(
      try await refusal(of: pki.leaf("peer", under: "peer", dns: ["stranger.example"])))
    #expect(refusal.server == .peerNotTrusted(.unknownPeer))
  }

  @Test("a peer's authority cannot speak for another peer")
  func otherPeersName() async throws {
    try store.set(name: "other.example", caPEM: pki.text("other.ca.pem"))
    let refusal = try #require(
      try await refusal(of: pki.leaf("peer", under: "peer", dns: ["other.example"])))
    guard case .peerNotTrusted(.untrusted) = refusal.server else {
      Issue.record("unexpected \(refusal.server)")
      return
    }
    #expect(try await self.refusal(of: pki.leaf("other", under: "other", dns: ["other.example"])) == nil)
  }

  @Test("a certificate that names two peers is refused")
  func ambiguous() async throws {
    try store.set(name: "other.example", caPEM: pki.text("peer.ca.pem"))
    let both = try pki.leaf("peer", under: "peer", dns: ["peer.example", "other.example"])
    #expect(try await refusal(of: both)?.server == .peerNotTrusted(.ambiguousName))
    store.remove(name: "other.example")
    #expect(try await refusal(of: both) == nil)
  }

  @Test("a certificate without DNS names is refused")
  func nameless() async throws {
    let identity = try pki.leaf("peer", under: "peer", dns: [], ip: ["127.0.0.1"])
    #expect(try await refusal(of: identity)?.server == .peerNotTrusted(.nameMissing))
  }

  @Test("adding and removing a peer counts from the next connection on")
  func dynamic() async throws {
    let identity = try pki.leaf("other", under: "other", dns: ["other.example"])
    let listener = try await LoopbackServer.start(server)
    func connect() async throws -> LoopbackClient {
      try await LoopbackClient.connect(port: listener.port, dialler(identity), serverName: "home.example")
    }
    #expect(try await !connect().echoes("before"))
    try store.set(name: "other.example", caPEM: pki.text("other.ca.pem"))
    let open = try await connect()
    #expect(try await open.echoes("added"))
    #expect(store.names == ["other.example", "peer.example"])
    store.remove(name: "other.example")
    #expect(try await !connect().echoes("removed"))
    #expect(try await open.echoes("still open"))
    await listener.stop()
  }

  @Test("a dialler trusts the expected peer's authority alone", arguments: [true, false])
  func dialledPeer(rightName: Bool) async throws {
    let peers = TrustStore()
    try peers.set(name: "home.example", caPEM: pki.text("home.ca.pem"))
    try peers.set(name: "peer.example", caPEM: pki.text("peer.ca.pem"))
    let listener = try await LoopbackServer.start(server)
    let configuration = TLSConfiguration.client(
      identity: try pki.leaf("peer", under: "peer", dns: ["peer.example"]),
      applicationProtocols: ["engram/1"], verifier: peers.verifier)
    let client = try await LoopbackClient.connect(
      port: listener.port, configuration, serverName: rightName ? "home.example" : "peer.example")
    #expect(try await client.echoes("hello") == rightName)
    #expect(client.seen.now.errors == (rightName ? [] : [.peerNotTrusted(.nameMismatch)]))
    if !rightName { #expect(await eventually { listener.seen.now.errors == [.handshakeRefused(alert: 42)] }) }
    await listener.stop()
  }

  @Test(
    "an API client accepts the host's names and addresses and nothing else",
    arguments: [
      ("home.example", true), ("127.0.0.1", true), ("HOME.example", true),
      ("away.example", false), ("127.0.0.2", false),
    ])
  func hostName(name: String, accepted: Bool) async throws {
    let listener = try await LoopbackServer.start(server)
    let anchors = try TrustAnchors(pem: pki.text("home.ca.pem"))
    let client = try await LoopbackClient.connect(
      port: listener.port,
      .client(applicationProtocols: ["http/1.1"], verifier: anchors.hostVerifier), serverName: name)
    #expect(try await client.echoes("hello") == accepted)
    if !accepted { #expect(client.seen.now.errors == [.peerNotTrusted(.nameMismatch)]) }
    await listener.stop()
  }

  @Test("an API client refuses a host under another authority")
  func hostAuthority() async throws {
    let listener = try await LoopbackServer.start(server)
    let anchors = try TrustAnchors(pem: pki.text("other.ca.pem"))
    let client = try await LoopbackClient.connect(
      port: listener.port,
      .client(applicationProtocols: ["http/1.1"], verifier: anchors.hostVerifier),
      serverName: "home.example")
    #expect(try await !client.echoes("hello"))
    #expect(await eventually { !client.seen.now.errors.isEmpty })
    await listener.stop()
  }

  @Test("text without an authority is no trust anchor")
  func noAnchor() throws {
    #expect(throws: TLSSetupError.trustAnchorUnreadable) { try TrustAnchors(pem: "nothing") }
    _ = try pki.leaf("leaf", under: "peer", dns: ["peer.example"])
    let leaf = try pki.text("leaf.pem")
    #expect(throws: TLSSetupError.trustAnchorUnreadable) { try TrustAnchors(pem: leaf) }
    #expect(throws: TLSSetupError.invalidName) { try TrustStore().set(name: "*.example", caPEM: leaf) }
  }
}
