import EngramCore
import EngramFederation
import TestSupport
import Testing

@Suite("Requests between nodes")
struct RequestTests {
  private func resolved(_ link: inout TestLink) -> [UInt64: Result<[UInt8], ErrorCode>] {
    var out: [UInt64: Result<[UInt8], ErrorCode>] = [:]
    for case .resolveRequest(let id, let result) in link.take() { out[id] = result }
    return out
  }

  private func asked(_ link: TestLink) throws -> [RequestFrame] {
    try link.frames(.request).map { try RequestFrame(parsing: $0) }
  }

  @Test("a request is answered once; an answer that nobody asked for ends the link")
  func roundTrip() throws {
    var link = try TestLink.established()
    link.tell(.requestMade(id: 7, .topicMembers, [1, 2, 3]))
    let frame = try #require(try asked(link).first)
    #expect(frame.kind == RequestKind.topicMembers.rawValue && frame.payload == [1, 2, 3])
    link.receive(.response, ResponseFrame(request: frame.request, code: .none, payload: [9]).encoded())
    #expect(resolved(&link) == [7: .success([9])])
    link.receive(.response, ResponseFrame(request: 99, code: .none, payload: []).encoded())
    #expect(link.end == .closedByUs(.unexpectedFrame))
  }

  @Test("a refusal arrives with its code")
  func refusal() throws {
    var link = try TestLink.established()
    link.tell(.requestMade(id: 7, .topicSubscribe, []))
    let frame = try #require(try asked(link).first)
    link.receive(.response, ResponseFrame(request: frame.request, code: .wrongHome, payload: []).encoded())
    #expect(resolved(&link) == [7: .failure(.wrongHome)])
    #expect(link.end == nil)
  }

  @Test("the peer's request goes to the node with its kind as it came, and the answer back")
  func answering() throws {
    var link = try TestLink.established()
    link.receive(.request, RequestFrame(request: 5, kind: 200, payload: [4]).encoded())
    var answered = false
    for case .answerRequest(let request, let kind, let payload) in link.take() {
      #expect(request == 5 && kind == 200 && payload == [4])
      link.tell(.requestAnswered(request: request, .notSupported, []))
      answered = true
    }
    #expect(answered)
    let response = try ResponseFrame(parsing: try #require(link.frames(.response).first))
    #expect(response == ResponseFrame(request: 5, code: .notSupported, payload: []))
  }

  @Test("towards a peer without the feature a request fails at once, and nothing is sent")
  func oldPeer() throws {
    let old = LinkFeatures.supported.subtracting(.requests)
    for (ours, theirs, isSent) in [
      (LinkFeatures.supported, LinkFeatures.supported, true), (.supported, old, false),
      (old, .supported, false),
    ] {
      var link = try TestLink.established(features: ours) { $0.features = theirs }
      link.tell(.requestMade(id: 1, .topicMembers, []))
      #expect(link.frames(.request).count == (isSent ? 1 : 0))
      #expect(resolved(&link) == (isSent ? [:] : [1: .failure(.notSupported)]))
      link.receive(.request, RequestFrame(request: 1, kind: 1, payload: []).encoded())
      #expect(link.end == (isSent ? nil : .closedByUs(.unexpectedFrame)))
    }
  }

  @Test("requests in flight are bounded on our side, and a place is free again after an answer")
  func boundOut() throws {
    var link = try TestLink.established()
    for id in 0..<UInt64(LinkLimits.queriesMax) { link.tell(.requestMade(id: id, .topicMembers, [])) }
    let frames = try asked(link)
    #expect(frames.count == LinkLimits.queriesMax)
    link.tell(.requestMade(id: 9_000, .topicMembers, []))
    #expect(resolved(&link) == [9_000: .failure(.overloaded)])
    link.receive(.response, ResponseFrame(request: frames[3].request, code: .none, payload: []).encoded())
    link.tell(.requestMade(id: 9_001, .topicMembers, []))
    #expect(link.frames(.request).count == 1)
    #expect(resolved(&link) == [3: .success([])])
  }

  @Test("a peer with too many open requests is told so, and is served again once one is answered")
  func boundIn() throws {
    var link = try TestLink.established()
    for number in 0...UInt32(LinkLimits.queriesMax) {
      link.receive(.request, RequestFrame(request: number, kind: 3, payload: []).encoded())
    }
    let refusals = try link.frames(.response).map { try ResponseFrame(parsing: $0) }
    #expect(
      refusals == [ResponseFrame(request: UInt32(LinkLimits.queriesMax), code: .overloaded, payload: [])])
    #expect(link.end == nil)
    link.tell(.requestAnswered(request: 0, .none, []))
    _ = link.take()
    link.receive(.request, RequestFrame(request: 70_000, kind: 3, payload: []).encoded())
    #expect(link.take().contains { if case .answerRequest(70_000, _, _) = $0 { true } else { false } })
  }

  @Test("a request fails when its time is up, and its late answer is harmless")
  func late() throws {
    var link = try TestLink.established()
    link.tell(.requestMade(id: 7, .topicMembers, []))
    link.tick(ms: LinkLimits.queryTimeoutMs)
    #expect(resolved(&link) == [7: .failure(.peerUnreachable)])
    link.receive(.response, ResponseFrame(request: 1, code: .none, payload: []).encoded())
    #expect(link.end == nil)
  }

  @Test("open requests fail with the link, later ones at once")
  func lost() throws {
    var link = try TestLink.established()
    link.tell(.requestMade(id: 7, .topicMembers, []))
    link.tell(.transportLost)
    #expect(resolved(&link) == [7: .failure(.peerUnreachable)])
    link.tell(.requestMade(id: 8, .topicMembers, []))
    #expect(resolved(&link) == [8: .failure(.peerUnreachable)])
  }

  @Test("a request that is too large is not sent, and one that comes ends the link")
  func tooLarge() throws {
    var link = try TestLink.established()
    let large = [UInt8](repeating: 0, count: Limits.requestBytesMax + 1)
    link.tell(.requestMade(id: 7, .topicMembers, large))
    #expect(resolved(&link) == [7: .failure(.tooLarge)])
    link.tell(.requestMade(id: 8, .topicMembers, Array(large.dropLast())))
    #expect(link.frames(.request).count == 1, "the control: one byte less goes")
    link.receive(.request, RequestFrame(request: 1, kind: 3, payload: large).encoded())
    #expect(link.end == .closedByUs(.tooLarge))
  }

  @Test("directory questions and requests do not take each other's answers")
  func apart() throws {
    var link = try TestLink.established()
    link.tell(.requestMade(id: 1, .topicMembers, []))
    // Both kinds count from 1: an answer of the other kind must not count as this one's.
    link.receive(.directoryAnswer, DirectoryAnswerFrame(request: 1, code: .none, answer: []).encoded())
    #expect(link.end == .closedByUs(.unexpectedFrame))
  }
}
