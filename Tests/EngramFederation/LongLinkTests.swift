import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import EngramSealing
import TestSupport
import Testing

@Suite("What changes while a link is up", .serialized)
struct LongLinkTests {
  @Test("a question that goes down with a link which gave way is asked over the other, once")
  func replacedLink() async throws {
    let federation = try await Federation.acmeAlone()
    let bob = try TestDevice("bob@globex.example")
    let node = federation.acme.node
    let first = try await federation.admitted()
    let found = Task { try await answer { node.directoryAnswer(bob.address, completion: $0) } }
    #expect(await first.received(.directoryQuery) != nil)
    let second = try await federation.admitted()
    #expect(await first.dismissal() == .duplicateLink)
    let query = try DirectoryQueryFrame(parsing: try #require(await second.received(.directoryQuery))[...])
    #expect(query.address == bob.address)
    second.send(
      .directoryAnswer,
      DirectoryAnswerFrame(
        request: query.request, code: .none, answer: signed([bob.bundle()], for: bob, by: federation)
      ).encoded())
    #expect(try await found.value == signed([bob.bundle()], for: bob, by: federation))
    // The control: when its second link gives way as well, the question has failed, and a third hears
    // nothing.
    let carol = try TestDevice("carol@globex.example")
    let lost = Task { try await answer { node.directoryAnswer(carol.address, completion: $0) } }
    #expect(await eventually { second.frames.count { $0.type == FrameType.directoryQuery.rawValue } == 2 })
    let third = try await federation.admitted()
    #expect(await third.received(.directoryQuery) != nil)
    let fourth = try await federation.admitted()
    #expect(await third.dismissal() == .duplicateLink)
    await #expect(throws: ErrorCode.peerUnreachable) { try await lost.value }
    #expect(!fourth.frames.contains { $0.type == FrameType.directoryQuery.rawValue })
    await federation.acme.stop()
  }

  private func signed(
    _ bundles: [PrekeyBundle], for device: TestDevice, by federation: Federation
  ) -> [UInt8] {
    let globex = federation.globex.test
    return signDirectoryAnswer(
      DirectoryAnswerBody(
        node: globex.name, nodeID: globex.id, address: device.address, issuedMs: TestTime.startMs,
        bundles: bundles), key: globex.key)
  }

  @Test("a device list that is renewed while the link is up goes to the peer before the next message")
  func renewedList() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let carol = try await federation.acme.client("carol")
    let bob = try await federation.globex.client("bob")
    for sender in [alice, carol] {
      _ = try await federation.acme.send([sealText("before", from: sender, to: [bob]).bytes], from: sender)
    }
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 2 })
    let links = established(federation)
    // Alice renews in time, Carol does not.
    federation.clock.advance(ms: 25 * TestTime.dayMs)
    try await renew(alice, at: federation.acme)
    // Past the end of the lists that the link carried first.
    federation.clock.advance(ms: 6 * TestTime.dayMs)
    let now = federation.clock.nowMs()
    let message = try sealText("after", from: alice, to: [bob], nowMs: now).bytes
    #expect(try await federation.acme.send([message], from: alice).map(\.outcome) == [.accepted])
    #expect(try await eventually { try await federation.globex.envelopes(bob).contains(message) })
    // The controls: who did not renew is stopped by the very same clock, and no new link brought the list.
    let stale = try sealText("stale", from: carol, to: [bob], nowMs: now).bytes
    #expect(try await federation.acme.send([stale], from: carol).map(\.code) == [.staleDeviceList])
    let refused = federation.globex.node.verify(stale, from: .peer(federation.acme.name))
    #expect(throws: ErrorCode.staleDeviceList) { try refused.get() }
    #expect(established(federation) == links)
    await federation.stop()
  }

  private func renew(_ device: TestDevice, at organisation: Organisation) async throws {
    let list = try TestDevice(device.address.text, nowMs: organisation.clock.nowMs(), listVersion: 2).list
    let session = try await organisation.session(device)
    let node = organisation.node
    let code = await withCheckedContinuation { continuation in
      node.putDeviceList(list.bytes, session) { continuation.resume(returning: $0) }
    }
    #expect(code == .none)
  }

  private func established(_ federation: Federation) -> [UInt64] {
    [federation.acme, federation.globex].map { organisation in
      organisation.federation.samples().first { $0.name == "engram_federation_links_established_total" }?
        .value ?? 0
    }
  }
}
