import EngramTLS
import NIOCore
import NIOPosix
import Testing

@Suite("Handshake")
struct HandshakeTests {
  let pki: TestPKI
  let store = TrustStore()
  let server: TLSConfiguration
  let member: TLSConfiguration.Identity

  init() throws {
    pki = try TestPKI()
    try pki.authority("home")
    try pki.authority("peer")
    try store.set(name: "peer.example", caPEM: pki.text("peer.ca.pem"))
    member = try pki.leaf("peer", under: "peer", dns: ["peer.example"])
    server = TLSConfiguration.server(
      identity: try pki.leaf("home", under: "home", dns: ["home.example"], ip: ["127.0.0.1"]),
      applicationProtocols: ["engram/1", "http/1.1"], defaultProtocol: "http/1.1",
      clientCertificateRequired: ["engram/1"], verifier: store.verifier)
  }

  func client(_ protocols: [String], identity: TLSConfiguration.Identity? = nil) throws -> TLSConfiguration {
    let anchors = try TrustAnchors(pem: pki.text("home.ca.pem"))
    return TLSConfiguration.client(
      identity: identity, applicationProtocols: protocols, verifier: anchors.hostVerifier)
  }

  @Test("both ends learn the protocol, the names and the cipher")
  func info() async throws {
    let listener = try await LoopbackServer.start(server)
    let dialler = try await LoopbackClient.connect(
      port: listener.port, client(["http/1.1", "engram/1"], identity: member), serverName: "home.example")
    #expect(try await dialler.echoes("hello"))
    let near = try #require(try await dialler.channel.withTLS { $0.connectionInfo })
    let child = try #require(listener.seen.now.channel)
    let far = try #require(try await child.withTLS { $0.connectionInfo })

    #expect(near.applicationProtocol == "engram/1", "the server's order decides, not the client's")
    #expect(far.applicationProtocol == "engram/1")
    #expect(dialler.seen.now.negotiated == ["engram/1"])
    #expect(near.cipherSuite == "TLS_AES_128_GCM_SHA256")
    #expect(near.verifiedPeerName == "home.example")
    #expect(far.verifiedPeerName == "peer.example")
    #expect(far.peerDNSNames == ["peer.example"])
    #expect(far.serverName == "home.example")
    #expect(far.peerPublicKeySHA256?.count == 32)
    #expect(far.peerPublicKeySHA256 != near.peerPublicKeySHA256)
    await listener.stop()
  }

  @Test("http/1.1 needs no client certificate")
  func noCertificate() async throws {
    let listener = try await LoopbackServer.start(server)
    let dialler = try await LoopbackClient.connect(
      port: listener.port, client(["http/1.1"]), serverName: "127.0.0.1")
    #expect(try await dialler.echoes("hello"))
    let child = try #require(listener.seen.now.channel)
    let far = try #require(try await child.withTLS { $0.connectionInfo })
    #expect(far.verifiedPeerName == nil && far.peerPublicKeySHA256 == nil)
    #expect(far.serverName == nil, "addresses are not sent as SNI")
    await listener.stop()
  }

  @Test("the openssl client speaks both protocols with us")
  func opensslClient() async throws {
    let listener = try await LoopbackServer.start(server)
    let base = [
      "s_client", "-connect", "127.0.0.1:\(listener.port)", "-CAfile", pki.path("home.ca.pem"),
      "-verify_return_error", "-servername", "home.example", "-verify_hostname", "home.example",
    ]
    let federation = try OpenSSLTool(
      base + ["-alpn", "engram/1", "-cert", pki.path("peer.pem"), "-key", pki.path("peer.key")], in: pki)
    #expect(await federation.prints("Verify return code: 0"))
    #expect(federation.output.contains("ALPN protocol: engram/1"))
    #expect(federation.output.contains("TLSv1.3"))
    federation.type("ping over openssl\n")
    #expect(await federation.prints("ping over openssl"))
    federation.type("K\n")  // s_client's command for a KeyUpdate that asks for one in return
    #expect(await federation.prints("KEYUPDATE"))
    federation.type("ping after the key update\n")
    #expect(await federation.prints("ping after the key update"))

    let api = try OpenSSLTool(base + ["-alpn", "http/1.1"], in: pki)
    #expect(await api.prints("ALPN protocol: http/1.1"))
    api.type("ping without a certificate\n")
    #expect(await api.prints("ping without a certificate"))
    await listener.stop()
  }

  @Test("we speak with the openssl server, certificate included")
  func opensslServer() async throws {
    let probe = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(host: "127.0.0.1", port: 0).get()
    let port = try #require(probe.localAddress?.port)
    try await probe.close()
    let tool = try OpenSSLTool(
      [
        "s_server", "-accept", "127.0.0.1:\(port)", "-cert", pki.path("home.pem"), "-key",
        pki.path("home.key"), "-Verify", "2", "-verify_return_error", "-CAfile", pki.path("peer.ca.pem"),
        "-alpn", "engram/1", "-rev",
      ], in: pki)
    #expect(await tool.prints("ACCEPT"))
    let dialler = try await LoopbackClient.connect(
      port: port, client(["engram/1"], identity: member), serverName: "home.example")
    try await dialler.send("abc\n")
    #expect(await eventually { dialler.seen.text == "cba\n" })
  }

  @Test("a TLS 1.2 client is refused, a TLS 1.3 client is not")
  func oldVersion() async throws {
    let listener = try await LoopbackServer.start(server)
    let base = ["s_client", "-connect", "127.0.0.1:\(listener.port)", "-alpn", "http/1.1"]
    let old = try OpenSSLTool(base + ["-tls1_2"], in: pki)
    #expect(await old.prints("alert protocol version"))
    #expect(await eventually { listener.seen.now.errors == [.handshakeFailed(alert: 70)] })
    let current = try OpenSSLTool(base + ["-tls1_3"], in: pki)
    #expect(await current.prints("ALPN protocol: http/1.1"))
    await listener.stop()
  }

  @Test("a client whose protocols we do not speak is refused on both sides")
  func wrongProtocol() async throws {
    let listener = try await LoopbackServer.start(server)
    let dialler = try await LoopbackClient.connect(
      port: listener.port, client(["smtp/9"]), serverName: "home.example")
    #expect(await eventually { dialler.seen.now.errors == [.noApplicationProtocol] })
    #expect(await eventually { listener.seen.now.errors == [.noApplicationProtocol] })
    #expect(await eventually { dialler.seen.now.inactive && listener.seen.now.inactive })
    await listener.stop()
  }

  @Test("a client without ALPN speaks the default protocol, or is refused when there is none")
  func defaultProtocol() async throws {
    let lenient = try await LoopbackServer.start(server)
    let accepted = try OpenSSLTool(["s_client", "-connect", "127.0.0.1:\(lenient.port)"], in: pki)
    accepted.type("ping\n")
    #expect(await accepted.prints("ping"))
    #expect(lenient.seen.now.negotiated == ["http/1.1"])
    await lenient.stop()

    var configuration = server
    configuration.defaultProtocol = nil
    let strict = try await LoopbackServer.start(configuration)
    let refused = try OpenSSLTool(["s_client", "-connect", "127.0.0.1:\(strict.port)"], in: pki)
    #expect(await refused.prints("alert no application protocol"))
    #expect(await eventually { strict.seen.now.errors == [.noApplicationProtocol] })
    await strict.stop()
  }

  @Test("a default protocol that needs a certificate cannot be reached by leaving ALPN out")
  func defaultProtocolStillNeedsCertificate() async throws {
    var configuration = server
    configuration.defaultProtocol = "engram/1"
    let listener = try await LoopbackServer.start(configuration)
    let tool = try OpenSSLTool(["s_client", "-connect", "127.0.0.1:\(listener.port)"], in: pki)
    #expect(await tool.prints("alert certificate required"))
    #expect(await eventually { listener.seen.now.errors == [.peerCertificateMissing] })
    await listener.stop()
  }

  @Test("a silent client is dropped at the handshake timeout")
  func handshakeTimeout() async throws {
    var limits = TLSLimits()
    limits.handshakeTimeout = .milliseconds(100)
    let listener = try await LoopbackServer.start(TLSContextBox(TLSContext(server)), limits: limits)
    let silent = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(host: "127.0.0.1", port: listener.port).get()
    #expect(await eventually { listener.seen.now.errors == [.handshakeTimedOut] })
    try await silent.closeFuture.get()
    await listener.stop()
  }

  @Test("bytes that are not TLS are refused")
  func notTLS() async throws {
    let listener = try await LoopbackServer.start(server)
    let plain = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(host: "127.0.0.1", port: listener.port).get()
    try await plain.writeAndFlush(ByteBuffer(string: "GET / HTTP/1.1\r\nhost: home.example\r\n\r\n"))
    #expect(
      await eventually {
        if case .handshakeFailed? = listener.seen.now.errors.first { return true }
        return false
      })
    try await plain.closeFuture.get()
    await listener.stop()
  }

  @Test("a peer that leaves in the middle of the handshake is not reported as truncation")
  func leavesEarly() async throws {
    let listener = try await LoopbackServer.start(server)
    let plain = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(host: "127.0.0.1", port: listener.port).get()
    try await plain.close()
    #expect(await eventually { listener.seen.now.errors == [.closedDuringHandshake] })
    await listener.stop()
  }
}
