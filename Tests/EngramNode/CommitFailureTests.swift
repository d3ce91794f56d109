import EngramCore
import EngramNode
import EngramSealing
import EngramStore
import Foundation
import Synchronization
import TestSupport
import Testing

@Suite("Commits that fail")
struct CommitFailureTests {
  let fault = CommitFault()

  @Test("a disk that fails makes a client wait; nothing is refused, and the same bytes are accepted later")
  func clientWaits() throws {
    let (fixture, alice, bob) = try (
      NodeFixture("acme.example", fault: fault), device("alice"), device("bob")
    )
    let (session, reader) = try (fixture.join(alice), fixture.join(bob))
    let sealed = try sealText("hello", from: alice, to: [bob])
    let ioError = StoreError.failed(code: 10)
    fault.set(ioError)
    let outcome = fixture.send(sealed.bytes, session)
    #expect(outcome.outcome == .later)
    #expect(outcome.code == .storageFailed)
    #expect(outcome.receipt.isEmpty)
    fault.set(nil)
    #expect(fixture.send(sealed.bytes, session).outcome == .accepted, "control: without the fault")
    let item = try #require(fixture.items(reader).last)
    let ack = MailboxAck(seq: item.seq, receipt: try bob.receipt(about: sealed.bytes))
    fault.set(ioError)
    #expect(fixture.acknowledge([ack], reader).map(\.outcome) == [.later])
    fault.set(nil)
    #expect(fixture.acknowledge([ack], reader).map(\.outcome) == [.accepted])
    try fixture.stop()
  }

  @Test(
    "a peer is not answered when the disk fails or it was removed meanwhile; it is told to wait when full")
  func peerIsNotAnswered() throws {
    let clock = ManualClock()
    let acme = try NodeFixture("acme.example", clock: clock)
    let globex = try NodeFixture("globex.example", clock: clock, fault: fault)
    try acme.peer(with: globex)
    let (alice, bob) = try (device("alice"), TestDevice("bob@globex.example"))
    let session = try acme.join(alice)
    _ = try globex.join(bob)
    _ = globex.wait {
      globex.node.learn(alice.certificateItem, from: acme.node.identity.name, completion: $0)
    }
    let sealed = try sealText("across", from: alice, to: [bob])
    #expect(acme.send(sealed.bytes, session).outcome == .accepted)
    func deliver() throws -> Result<[AckFrame.Item], ErrorCode> {
      let batch = [globex.node.verify(sealed.bytes, from: .peer(acme.node.identity.name))]
      return globex.wait {
        globex.node.acceptFromPeer(
          acme.node.identity.name, epoch: 1, seqs: [1], batch: batch, completion: $0)
      }
    }
    fault.set(.failed(code: 10))
    #expect(throws: ErrorCode.storageFailed) { try deliver().get() }
    fault.set(.full)
    #expect(try deliver().get().map(\.outcome) == [.later])
    fault.set(nil)
    try globex.node.setPeers([])
    #expect(throws: ErrorCode.peerSuspended) { try deliver().get() }
    try acme.peer(with: globex)
    // The disk is measured again: there is room.
    try globex.sweep()
    #expect(try deliver().get().map(\.outcome) == [.accepted], "control: the same batch without a fault")
  }

  @Test("after a failed fsync nobody is answered, nothing more is committed, and the process is told to end")
  func failedFsync() throws {
    let ended = DispatchSemaphore(value: 0)
    let isAnswered = Mutex(false)
    let codes = Mutex<[ErrorCode]>([])
    let fixture = try NodeFixture("acme.example", fault: fault) { code in
      codes.withLock { $0.append(code) }
      ended.signal()
    }
    let (alice, bob) = try (device("alice"), device("bob"))
    let session = try fixture.join(alice)
    _ = try fixture.join(bob)
    let sealed = try sealText("lost?", from: alice, to: [bob])
    let verified = [fixture.node.verify(sealed.bytes, from: .client(session))]
    fault.set(.fsyncFailed)
    fixture.node.accept(verified, from: session) { _ in isAnswered.withLock { $0 = true } }
    ended.wait()
    fault.set(nil)
    #expect(codes.withLock { $0 } == [.storageFailed])
    #expect(!isAnswered.withLock { $0 })
    #expect(!fixture.node.isReady)
    #expect(fixture.send(sealed.bytes, session).outcome == .later, "it does not go on with another commit")
    try fixture.stop()
    #expect(!isAnswered.withLock { $0 })
    let again = try NodeFixture("acme.example", directory: fixture.directory)
    #expect(try again.send(sealed.bytes, again.login(alice)).outcome == .accepted, "the control")
  }

  @Test("a failed fsync ends the process with exit code 74")
  func exitCode() async {
    await #expect(processExitsWith: .exitCode(74)) {
      let fault = CommitFault()
      let fixture = try NodeFixture("acme.example", fault: fault)
      fault.set(.fsyncFailed)
      _ = try fixture.invite("alice")
    }
    await #expect(processExitsWith: .success, "control: without the fault it lives") {
      let fixture = try NodeFixture("acme.example", fault: CommitFault())
      _ = try fixture.invite("alice")
    }
  }

  @Test("what a failed commit read is not remembered")
  func rosterAfterFailure() throws {
    func sendsAfterDisabling(failing: Bool) throws -> ErrorCode {
      let directory = try TemporaryDirectory()
      let (alice, bob) = try (device("alice"), device("bob"))
      let first = try NodeFixture("acme.example", directory: directory)
      _ = (try first.join(alice), try first.join(bob))
      try first.stop()
      // A fresh node knows nobody by heart.
      let fixture = try NodeFixture("acme.example", directory: directory, fault: fault)
      let session = try fixture.login(alice)
      let sealed = try sealText("to bob", from: alice, to: [bob])
      let verified = [fixture.node.verify(sealed.bytes, from: .client(session))]
      let gate = fault.hold()
      fixture.node.invite(name: "carol", ttlMs: 1_000) { _ in }
      gate.entered.wait()
      let done = DispatchGroup()
      done.enter()
      done.enter()
      fixture.node.disable("bob") { _ in done.leave() }
      fixture.node.accept(verified, from: session) { _ in done.leave() }
      // The held commit passes; the group behind it meets the fault.
      if failing { fault.setAfterRelease(.failed(code: 10)) }
      gate.release.signal()
      done.wait()
      fault.set(nil)
      defer { try? fixture.stop() }
      return fixture.send(sealed.bytes, session).code
    }
    #expect(try sendsAfterDisabling(failing: true) == .none)
    #expect(try sendsAfterDisabling(failing: false) == .unknownRecipient, "control")
  }

  private func device(_ name: String) throws -> TestDevice { try TestDevice("\(name)@acme.example") }
}
