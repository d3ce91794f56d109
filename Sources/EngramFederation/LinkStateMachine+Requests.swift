import EngramCore

/// Requests of clients that only the peer can answer, such as for the members of a topic. In flight they are
/// bounded in both directions; each is answered once, with a code of its own, and a link that ends answers
/// what is open with `peer-unreachable`.
extension LinkStateMachine {
  mutating func request(_ event: LinkEvent) {
    switch event {
    case .requestMade(let id, let kind, let payload):
      switch openRequest(id, kind, payload) {
      case .none: break
      case let code: actions.append(.resolveRequest(id: id, .failure(code)))
      }
    case .requestAnswered(let request, let code, let payload):
      requests.unanswered -= 1
      send(.response, ResponseFrame(request: request, code: code, payload: payload).encoded())
    default: break
    }
  }

  /// - Returns: `none` when the request went out.
  private mutating func openRequest(_ id: UInt64, _ kind: RequestKind, _ payload: [UInt8]) -> ErrorCode {
    guard let session, drain == nil else { return .peerUnreachable }
    guard session.features.contains(.requests) else { return .notSupported }
    guard payload.count <= Limits.requestBytesMax else { return .tooLarge }
    guard let request = requests.ask(id, deadlineMs: nowMs + LinkLimits.queryTimeoutMs) else {
      return .overloaded
    }
    send(.request, RequestFrame(request: request, kind: kind.rawValue, payload: payload).encoded())
    return .none
  }

  mutating func receiveRequest(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    let frame = try parsed { () throws(CodecError) in try RequestFrame(parsing: payload) }
    guard requests.unanswered < LinkLimits.queriesMax else {
      return send(.response, ResponseFrame(request: frame.request, code: .overloaded, payload: []).encoded())
    }
    requests.unanswered += 1
    actions.append(.answerRequest(request: frame.request, kind: frame.kind, frame.payload))
  }

  mutating func receiveResponse(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    let frame = try parsed { () throws(CodecError) in try ResponseFrame(parsing: payload) }
    switch requests.take(frame.request) {
    case .known(let id):
      let result: Result<[UInt8], ErrorCode> =
        frame.code == .none ? .success(frame.payload) : .failure(frame.code)
      actions.append(.resolveRequest(id: id, result))
    // It came after its time was up.
    case .late: break
    case .neverAsked: throw LinkRefusal(.unexpectedFrame)
    }
  }
}
