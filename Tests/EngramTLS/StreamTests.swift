import EngramTLS
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite("Stream")
struct StreamTests {
  let pki: TestPKI
  let server: TLSConfiguration
  let client: TLSConfiguration

  init() throws {
    pki = try TestPKI()
    try pki.authority("home")
    server = TLSConfiguration.server(
      identity: try pki.leaf("home", under: "home", dns: ["home.example"]),
      applicationProtocols: ["http/1.1"])
    let anchors = try TrustAnchors(pem: pki.text("home.ca.pem"))
    client = TLSConfiguration.client(applicationProtocols: ["http/1.1"], verifier: anchors.hostVerifier)
  }

  func connect(
    _ listener: LoopbackServer, limits: TLSLimits = TLSLimits(), halfClosure: Bool = false,
    autoRead: Bool = true, below: (@Sendable () -> any ChannelHandler)? = nil
  ) async throws -> LoopbackClient {
    try await LoopbackClient.connect(
      port: listener.port, client, serverName: "home.example", limits: limits, halfClosure: halfClosure,
      autoRead: autoRead, below: below)
  }

  func listen(halfClosure: Bool = false, reaction: Recorder.Reaction = .echo) async throws
    -> LoopbackServer
  {
    try await LoopbackServer.start(
      TLSContextBox(TLSContext(server)), halfClosure: halfClosure, reaction: reaction)
  }

  @Test("a transport that ends without close_notify is reported as truncation", arguments: [true, false])
  func truncation(halfClosure: Bool) async throws {
    let listener = try await listen(halfClosure: halfClosure)
    let dialler = try await connect(listener)
    #expect(try await dialler.echoes("hello"))
    try await dialler.channel.closeBelowTLS()
    #expect(await eventually { listener.seen.now.errors == [.truncated] && listener.seen.now.inactive })
    await listener.stop()
  }

  @Test("control: a clean close is not reported as truncation", arguments: [true, false])
  func cleanClose(halfClosure: Bool) async throws {
    let listener = try await listen(halfClosure: halfClosure)
    let dialler = try await connect(listener)
    #expect(try await dialler.echoes("hello"))
    dialler.channel.close(promise: nil)
    if halfClosure {
      #expect(await eventually { listener.seen.now.inputClosed == 1 })
      try await #require(listener.seen.now.channel).close()
    }
    try await dialler.channel.closeFuture.get()
    #expect(await eventually { listener.seen.now.inactive })
    #expect(listener.seen.now.errors.isEmpty && dialler.seen.now.errors.isEmpty)
    await listener.stop()
  }

  @Test("a changed byte on the wire ends the connection", arguments: [true, false])
  func tampering(changes: Bool) async throws {
    let listener = try await listen()
    let dialler = try await connect(listener, below: { BitFlipper(armed: changes) })
    #expect(try await dialler.echoes("hello") == !changes)
    if changes {
      #expect(await eventually { listener.seen.now.errors == [.protocolViolation(alert: 20)] })
      #expect(await eventually { dialler.seen.now.errors == [.alertReceived(alert: 20)] })
    }
    #expect(changes == listener.seen.text.isEmpty)
    await listener.stop()
  }

  @Test("the exporter agrees at both ends and differs between connections and labels")
  func exporter() async throws {
    let label = "EXPORTER-engram-v1-hello"
    let listener = try await listen()
    var values: Set<[UInt8]> = []
    for _ in 0..<2 {
      let dialler = try await connect(listener)
      #expect(try await dialler.echoes("hello"))
      let near = try await dialler.channel.withTLS { try $0.exporter(label: label, length: 32) }
      let child = try #require(listener.seen.now.channel)
      let far = try await child.withTLS { try $0.exporter(label: label, length: 32) }
      #expect(near == far && near.count == 32)
      values.insert(near)
      values.insert(try await child.withTLS { try $0.exporter(label: "EXPORTER-other", length: 32) })
    }
    #expect(values.count == 4)
    await listener.stop()
  }

  @Test("50 MB arrive intact")
  func bigTransfer() async throws {
    let listener = try await listen(reaction: .none)
    let dialler = try await connect(listener)
    var generator = SystemRandomNumberGenerator()
    var block: [UInt8] = []
    while block.count < 1_000_000 {
      withUnsafeBytes(of: generator.next()) { block.append(contentsOf: $0) }
    }
    #expect(await eventually { !dialler.seen.now.negotiated.isEmpty })
    // One huge write, then many: they are cut and packed in different ways.
    let half = [[UInt8]](repeating: block, count: 25).flatMap(\.self)
    try await dialler.channel.writeAndFlush(ByteBuffer(bytes: half))
    for start in stride(from: 0, to: half.count, by: 70_000) {
      dialler.channel.write(ByteBuffer(bytes: half[start..<min(start + 70_000, half.count)]), promise: nil)
    }
    dialler.channel.flush()
    #expect(await eventually { listener.seen.now.receivedBytes >= 2 * half.count })
    #expect(listener.seen.now.received == half + half)
    await listener.stop()
  }

  @Test("tiny flushed writes share records")
  func packing() async throws {
    let listener = try await listen(reaction: .none)
    let records = RecordCount()
    let dialler = try await connect(listener, below: { RecordCounter(records) })
    #expect(await eventually { !dialler.seen.now.negotiated.isEmpty })
    let before = records.value
    let channel = dialler.channel
    let writes = 10_000
    let promises = try await channel.eventLoop.submit {
      (0..<writes).map { channel.writeAndFlush(ByteBuffer(string: String(format(number: $0)))) }
    }.get()
    for promise in promises { try await promise.get() }
    #expect(await eventually { listener.seen.now.receivedBytes == writes * 8 })
    #expect(listener.seen.text == (0..<writes).map(format(number:)).joined())
    #expect(records.value - before == (writes * 8 + 16_383) / 16_384)
    await listener.stop()
  }

  @Test("after a half close the other direction still works", arguments: [true, false])
  func halfClose(clientEnds: Bool) async throws {
    let listener = try await listen(halfClosure: true)
    let dialler = try await connect(listener, halfClosure: true)
    #expect(try await dialler.echoes("hello"))
    let child = try #require(listener.seen.now.channel)
    let (ending, other) = clientEnds ? (dialler.channel, child) : (child, dialler.channel)
    let (endingSeen, otherSeen) =
      clientEnds ? (dialler.seen, listener.seen) : (listener.seen, dialler.seen)

    ending.write(ByteBuffer(string: "last words"), promise: nil)
    ending.flush()
    try await ending.close(mode: .output)
    #expect(await eventually { otherSeen.now.inputClosed == 1 })
    #expect(otherSeen.text.contains("last words"))
    await #expect(throws: ChannelError.outputClosed) {
      try await ending.writeAndFlush(ByteBuffer(string: "x"))
    }

    try await other.writeAndFlush(ByteBuffer(string: "answer"))
    #expect(await eventually { endingSeen.text.contains("answer") })
    try await other.close(mode: .output)
    #expect(await eventually { listener.seen.now.inactive && dialler.seen.now.inactive })
    #expect(listener.seen.now.errors.isEmpty && dialler.seen.now.errors.isEmpty)
    await listener.stop()
  }

  @Test("writes before the handshake are sent after it, and their number is bounded")
  func pendingWrites() async throws {
    let listener = try await listen(reaction: .none)
    var limits = TLSLimits()
    limits.pendingBytesMax = 100
    let (tight, context) = (limits, try TLSContext(client))
    func dial(_ bytes: Int) async throws -> Result<Void, any Error> {
      let written = MultiThreadedEventLoopGroup.singleton.next().makePromise(of: Void.self)
      let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandlers(
              TLSHandler(context: context, serverName: "home.example", limits: tight), Recorder(Seen()))
            channel.writeAndFlush(ByteBuffer(repeating: 7, count: bytes), promise: written)
          }
        }
      _ = try? await bootstrap.connect(host: "127.0.0.1", port: listener.port).get()
      do { return .success(try await written.futureResult.get()) } catch { return .failure(error) }
    }
    try await dial(100).get()
    #expect(await eventually { listener.seen.now.receivedBytes == 100 })
    let refused = try await dial(101)
    #expect(throws: TLSError.pendingWritesTooLarge(limitBytes: 100)) { try refused.get() }
    await listener.stop()
  }

  @Test("a reader by demand gets its bytes although records without plaintext come first")
  func manualReads() async throws {
    let listener = try await listen()
    let dialler = try await connect(listener, autoRead: false)
    dialler.channel.read()
    #expect(try await dialler.echoes("one"))
    dialler.channel.writeAndFlush(ByteBuffer(string: "two"), promise: nil)
    #expect(await eventually { listener.seen.text == "onetwo" })
    #expect(dialler.seen.text == "one", "control: without demand nothing is read")
    dialler.channel.read()
    #expect(await eventually { dialler.seen.text == "onetwo" })
    await listener.stop()
  }

  @Test("closing from inside a read is safe")
  func closeInsideRead() async throws {
    let listener = try await listen(reaction: .close)
    let dialler = try await connect(listener)
    try await dialler.send("hello")
    #expect(await eventually { listener.seen.now.inactive && dialler.seen.now.inactive })
    #expect(listener.seen.text == "hello")
    #expect(listener.seen.now.errors.isEmpty && dialler.seen.now.errors.isEmpty)
    await listener.stop()
  }
}

/// Eight characters, so that positions are easy to count.
private func format(number: Int) -> String {
  let digits = String(number)
  return String(repeating: ".", count: 8 - digits.count) + digits
}

/// How many records of application data left, counted below TLS.
final class RecordCount: Sendable {
  private let count = Mutex(0)
  var value: Int { count.withLock { $0 } }
  func add(_ records: Int) { count.withLock { $0 += records } }
}

final class RecordCounter: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let records: RecordCount

  init(_ records: RecordCount) { self.records = records }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    var bytes = unwrapOutboundIn(data)
    var count = 0
    // Type, version, length: RFC 8446 section 5.1. Buffers hold whole records.
    while let type = bytes.readInteger(as: UInt8.self), bytes.readInteger(as: UInt16.self) != nil,
      let length = bytes.readInteger(as: UInt16.self), bytes.readSlice(length: Int(length)) != nil
    {
      if type == 23 { count += 1 }
    }
    records.add(count)
    context.write(data, promise: promise)
  }
}

/// Changes the last bit of the first record of application data, when armed.
final class BitFlipper: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let armed: Bool
  private var writes = 0

  init(armed: Bool) { self.armed = armed }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    writes += 1
    var bytes = unwrapOutboundIn(data)
    // A client's flights are ClientHello, Finished, and then data.
    if armed && writes == 3, let last = bytes.viewBytes(at: bytes.writerIndex - 1, length: 1)?.first {
      bytes.setInteger(last ^ 1, at: bytes.writerIndex - 1)
    }
    context.write(wrapOutboundOut(bytes), promise: promise)
  }
}
