package import EngramCore
internal import EngramCrypto
internal import EngramStore
import Synchronization

/// Sessions in memory: a restart ends them all, and devices open new ones with one signature.
final class SessionTable: Sendable {
  private struct State {
    /// Keyed by a digest of the bearer, so that looking one up reveals nothing about the others' bytes.
    var byBearer: [Digest: ClientSession] = [:]
  }
  private let state = Mutex(State())

  var count: Int { state.withLock { $0.byBearer.count } }

  /// False when `max` live sessions are there already.
  func insert(_ session: ClientSession, bearer: String, max: Int, nowMs: UInt64) -> Bool {
    state.withLock { state in
      if state.byBearer.count >= max { state.byBearer = state.byBearer.filter { $0.value.expiresMs > nowMs } }
      guard state.byBearer.count < max else { return false }
      state.byBearer[Self.key(bearer)] = session
      return true
    }
  }

  func session(_ bearer: String) -> ClientSession? { state.withLock { $0.byBearer[Self.key(bearer)] } }
  func remove(_ bearer: String) { state.withLock { $0.byBearer[Self.key(bearer)] = nil } }
  func removeAll(of kids: Set<Kid>) {
    state.withLock { $0.byBearer = $0.byBearer.filter { !kids.contains($0.value.kid) } }
  }
  func removeExpired(nowMs: UInt64) {
    state.withLock { $0.byBearer = $0.byBearer.filter { $0.value.expiresMs > nowMs } }
  }

  private static func key(_ bearer: String) -> Digest { tagged("session", Array(bearer.utf8)[...]) }
}

extension Node {
  /// Turns a device's signed token into a session. The token's id is committed before the session exists, so
  /// that a token is used once even across a restart.
  package func openSession(
    token: String, completion: @escaping @Sendable (Result<SessionGrant, ErrorCode>) -> Void
  ) {
    let checked = checkToken(token)
    guard case .success(let (token, session)) = checked else {
      metrics.add(.sessionsRefused)
      if case .failure(let code) = checked { completion(.failure(code)) }
      return
    }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        guard try group.transaction.useToken(token.id, expiresMs: token.expiresMs + Limits.clockSkewMs) else {
          throw ErrorCode.tokenReplayed
        }
        group.afterCommit { [self] _ in completion(begin(session)) }
      } refused: { [metrics] code in
        metrics.add(.sessionsRefused)
        completion(.failure(code))
      })
  }

  /// Every wrong token looks the same from outside.
  private func checkToken(_ text: String) -> Result<(DeviceToken, ClientSession), ErrorCode> {
    let now = clock.nowMs()
    guard let token = DeviceToken(parsing: text), let device = try? roster.device(token.kid),
      let mailbox = device.mailbox, device.certificate.body.address == token.address,
      token.verify(key: device.certificate.key, node: identity.id, nowMs: now) == .none
    else { return .failure(.tokenInvalid) }
    let standing = device.loginStanding(nowMs: now)
    guard standing == .none else { return .failure(standing) }
    let session = ClientSession(
      address: token.address, kid: token.kid, mailbox: mailbox, expiresMs: now + settings.sessionMs)
    return .success((token, session))
  }

  private func begin(_ session: ClientSession) -> Result<SessionGrant, ErrorCode> {
    let bearer = hex(random.bytes(32))
    guard sessions.insert(session, bearer: bearer, max: settings.sessionsMax, nowMs: clock.nowMs()) else {
      return .failure(.overloaded)
    }
    metrics.add(.sessionsOpened)
    return .success(SessionGrant(bearer: bearer, expiresMs: session.expiresMs, session: session))
  }

  /// A new bearer for a live session, no signature needed; the old one ends.
  package func renewSession(_ bearer: String) -> Result<SessionGrant, ErrorCode> {
    switch session(bearer) {
    case .failure(let code): return .failure(code)
    case .success(let old):
      sessions.remove(bearer)
      return begin(
        ClientSession(
          address: old.address, kid: old.kid, mailbox: old.mailbox,
          expiresMs: clock.nowMs() + settings.sessionMs))
    }
  }

  /// The live session behind a bearer, with the device's standing asked again.
  package func session(_ bearer: String) -> Result<ClientSession, ErrorCode> {
    let now = clock.nowMs()
    guard let session = sessions.session(bearer), session.expiresMs > now else {
      return .failure(.sessionExpired)
    }
    guard let device = try? roster.device(session.kid) else { return .failure(.sessionExpired) }
    let standing = device.loginStanding(nowMs: now)
    guard standing == .none else { return .failure(standing) }
    presence.seen(session.address, nowMs: now)
    return .success(session)
  }

  /// Ends what these devices have open, live connections included.
  func endSessions(of kids: [Kid]) {
    guard !kids.isEmpty else { return }
    sessions.removeAll(of: Set(kids))
    sessionWatches.call(kids)
  }

  /// Called once the session's client is disabled or its device is no longer active.
  package func watchSession(_ session: ClientSession, onEnd: @escaping @Sendable () -> Void) -> Watch {
    sessionWatches.add(session.kid, onEnd)
  }
}
