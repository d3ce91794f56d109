import EngramCore
import EngramNode
import EngramTLS
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Keeps one peer connected: dials, waits, chooses between simultaneous links, and knows the state to show.
/// Nothing is shared with other peers, so a slow or dead one delays nobody.
final class PeerSupervisor: Sendable {
  private enum Dial {
    case resting
    case dialling
    case waiting(Scheduled<Void>, untilMs: UInt64)
  }

  /// A question for the next link.
  private struct WaitingLookup {
    let id: UInt64
    let question: LinkQuestion
    let completion: @Sendable (Result<[UInt8], ErrorCode>, LinkPort?) -> Void
  }

  private struct State {
    var peer: FederationPeer
    var isRunning = false
    /// The link that may live; established or about to be.
    var link: LinkPort?
    var established: NIODeadline?
    /// Every open link of this peer, proved or not.
    var open: [ObjectIdentifier: LinkPort] = [:]
    var dial = Dial.resting
    var backoff: Backoff
    var attempts = 0
    var shown: PeerStatus.State
    var sinceMs: UInt64
    var lastError = ErrorCode.none
    var lookups: [WaitingLookup] = []
    var nextLookup: UInt64 = 0

    mutating func show(_ state: PeerStatus.State, nowMs: UInt64) {
      guard shown != state else { return }
      (shown, sinceMs) = (state, nowMs)
    }
  }

  private let environment: LinkEnvironment
  private let connector: PeerConnector
  private let random: any RandomSource
  private let loop: any EventLoop
  private let state: Mutex<State>
  private var nowMs: UInt64 { environment.node.clock.nowMs() }
  private var log: Logger { environment.log }

  init(
    _ peer: FederationPeer, environment: LinkEnvironment, connector: PeerConnector, random: any RandomSource,
    loop: any EventLoop
  ) {
    (self.environment, self.connector, self.random, self.loop) = (environment, connector, random, loop)
    let settings = environment.settings
    state = Mutex(
      State(
        peer: peer, backoff: Backoff(minMs: settings.dialBackoffMinMs, maxMs: settings.dialBackoffMaxMs),
        shown: peer.isEnabled ? .dialling : .suspended, sinceMs: environment.node.clock.nowMs()))
  }

  var peer: FederationPeer { state.withLock { $0.peer } }

  // MARK: - Dialling

  func start() {
    state.withLock { $0.isRunning = true }
    dial()
  }

  private func dial() {
    let peer: FederationPeer? = state.withLock { state in
      guard state.isRunning, state.peer.isEnabled, state.link == nil else {
        if case .waiting = state.dial { state.dial = .resting }
        return nil
      }
      if case .dialling = state.dial { return nil }
      state.dial = .dialling
      state.attempts += 1
      if case .refused = state.shown {} else { state.show(.dialling, nowMs: nowMs) }
      return state.peer
    }
    guard let peer else { return }
    environment.counters.add(.dials)
    connector.connect(peer, supervisor: self, environment: environment).whenFailure { [weak self] _ in
      self?.dialFailed(.peerUnreachable)
    }
  }

  private func dialFailed(_ code: ErrorCode) {
    let isOurs = state.withLock { state in
      // The link's own end may have said it already.
      guard case .dialling = state.dial else { return false }
      state.dial = .resting
      state.lastError = code
      if state.link == nil { state.show(.backoff, nowMs: nowMs) }
      return true
    }
    if isOurs { scheduleDial() }
  }

  private func scheduleDial(notBeforeMs: UInt64 = 0) {
    let number = random.bytes(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    state.withLock { state in
      guard state.isRunning, state.peer.isEnabled, state.link == nil, case .resting = state.dial else {
        return
      }
      let wait = max(state.backoff.next(random: number), notBeforeMs)
      let timer = loop.scheduleTask(in: .milliseconds(Int64(wait))) { [weak self] in
        guard let self else { return }
        self.dial()
      }
      state.dial = .waiting(timer, untilMs: nowMs + wait)
    }
  }

  // MARK: - Links

  /// A connection of this peer, before its hello. False when too many are in that state.
  func opened(_ port: LinkPort) -> Bool {
    state.withLock { state in
      let unproven = state.open.values.count { $0 !== state.link }
      guard state.isRunning, state.peer.isEnabled, unproven < LinkLimits.unprovenLinksMax else {
        return false
      }
      state.open[ObjectIdentifier(port)] = port
      return true
    }
  }

  /// Asked by a link whose peer proved itself: may it live?
  func claim(_ port: LinkPort) -> LinkClaim {
    let own = environment.node.identity.id
    let (answer, other): (LinkClaim, LinkPort?) = state.withLock { state in
      guard state.isRunning else { return (.refused(.shuttingDown), nil) }
      guard state.peer.isEnabled else { return (.refused(.peerSuspended), nil) }
      guard let existing = state.link, existing !== port else {
        state.link = port
        return (.granted(replacedOther: false), nil)
      }
      guard newLinkWins(existing: existing.role, new: port.role, own: own, peer: state.peer.id) else {
        return (.refused(.duplicateLink), existing)
      }
      state.link = port
      state.established = nil
      return (.granted(replacedOther: true), existing)
    }
    switch answer {
    // The peer believes that the old link is gone: find out soon.
    case .refused(.duplicateLink): other?.post(.probed)
    case .refused: break
    case .granted: other?.post(.failed(.duplicateLink))
    }
    return answer
  }

  func established(_ port: LinkPort) {
    let waiting: [WaitingLookup] = state.withLock { state in
      guard state.link === port else { return [] }
      state.established = .now()
      state.attempts = 0
      state.lastError = .none
      if case .waiting(let timer, _) = state.dial {
        timer.cancel()
        state.dial = .resting
      }
      state.show(.connected, nowMs: nowMs)
      defer { state.lookups = [] }
      return state.lookups
    }
    environment.counters.add(.linksAdmitted)
    log.info("peer connected", metadata: ["peer": "\(peer.name)", "role": "\(port.role)"])
    for lookup in waiting { port.ask(lookup.question) { lookup.completion($0, port) } }
  }

  func ended(_ port: LinkPort, _ end: LinkEnd, because transport: TLSError?) {
    let code = transport.map(Self.code) ?? end.code
    let isCurrent = state.withLock { state in
      state.open[ObjectIdentifier(port)] = nil
      if port.role == .dialler, case .dialling = state.dial { state.dial = .resting }
      let isCurrent = state.link === port
      if isCurrent {
        if let since = state.established, NIODeadline.now() - since >= FederationTimes.stableLink {
          state.backoff.reset()
        }
        (state.link, state.established) = (nil, nil)
      }
      guard state.link == nil else { return isCurrent }
      state.lastError = code
      state.show(
        !state.peer.isEnabled ? .suspended : code.isRefusal ? .refused(code) : .backoff, nowMs: nowMs)
      return isCurrent
    }
    if code.isRefusal { environment.counters.add(.linksRefused) }
    log.log(
      level: isCurrent ? .info : .debug, "link ended",
      metadata: [
        "peer": "\(peer.name)", "role": "\(port.role)", "code": "\(code.name)", "end": "\(end.word)",
      ])
    var retryAfterMs: UInt64 = 0
    if case .closedByPeer(_, let wait) = end { retryAfterMs = UInt64(wait) }
    scheduleDial(notBeforeMs: min(retryAfterMs, environment.settings.dialBackoffMaxMs))
  }

  private static func code(of error: TLSError) -> ErrorCode {
    switch error {
    case .alertReceived, .handshakeFailed, .handshakeRefused, .noApplicationProtocol, .peerCertificateMissing,
      .peerNotTrusted:
      .wrongPeer
    case .closedDuringHandshake, .handshakeTimedOut, .protocolViolation, .truncated: .peerUnreachable
    case .internalFailure, .invalidServerName, .pendingWritesTooLarge: .internalError
    }
  }

  // MARK: - Questions

  /// Asks over the link; for a moment also over one that is only being made. A question that went down with
  /// its link, as when one of two simultaneous links gives way, is asked once more.
  func ask(_ question: LinkQuestion, _ completion: @escaping QuestionCompletion) {
    askOnce(question) { [weak self] result, link in
      guard let self, let link, case .failure(.peerUnreachable) = result, self.hasLost(link) else {
        return completion(result)
      }
      self.askOnce(question) { result, _ in completion(result) }
    }
  }

  private func hasLost(_ link: LinkPort) -> Bool { state.withLock { $0.link !== link } }

  /// The completion also names the link that was asked.
  private func askOnce(
    _ question: LinkQuestion,
    _ completion: @escaping @Sendable (Result<[UInt8], ErrorCode>, LinkPort?) -> Void
  ) {
    enum Way { case ask(LinkPort), refuse, wait(UInt64) }
    let way: Way = state.withLock { state in
      if let link = state.link, state.established != nil { return .ask(link) }
      guard state.isRunning, state.peer.isEnabled, state.attempts <= FederationTimes.hopefulDials,
        state.lookups.count < LinkLimits.queriesMax
      else { return .refuse }
      state.nextLookup += 1
      state.lookups.append(WaitingLookup(id: state.nextLookup, question: question, completion: completion))
      return .wait(state.nextLookup)
    }
    switch way {
    case .ask(let link): link.ask(question) { completion($0, link) }
    case .refuse: completion(.failure(.peerUnreachable), nil)
    case .wait(let id):
      loop.scheduleTask(in: FederationTimes.lookupWait) { [weak self] in self?.giveUp(id) }
    }
  }

  private func giveUp(_ id: UInt64) {
    let late = state.withLock { state in
      state.lookups.firstIndex { $0.id == id }.map { state.lookups.remove(at: $0) }
    }
    late?.completion(.failure(.peerUnreachable), nil)
  }

  // MARK: - Ends and changes

  /// No more links. The open ones finish what they took in and say goodbye.
  func stop(_ code: ErrorCode) -> [LinkPort] {
    let (links, lookups) = state.withLock { state in
      state.isRunning = false
      if case .waiting(let timer, _) = state.dial { timer.cancel() }
      state.dial = .resting
      defer { state.lookups = [] }
      return (Array(state.open.values), state.lookups)
    }
    for lookup in lookups { lookup.completion(.failure(.peerUnreachable), nil) }
    for link in links { link.post(.drain(code)) }
    return links
  }

  func status(queued: Int) -> PeerStatus {
    state.withLock { state in
      var next: UInt64?
      if case .waiting(_, let until) = state.dial { next = until }
      return PeerStatus(
        name: state.peer.name, nodeID: state.peer.id, endpoint: "\(state.peer.host):\(state.peer.port)",
        state: state.shown, sinceMs: state.sinceMs, queued: queued, inFlight: state.link?.inFlight ?? 0,
        lastError: state.lastError, attempts: state.attempts, nextDialMs: next)
    }
  }
}

extension LinkEnd {
  fileprivate var word: String {
    switch self {
    case .closedByPeer: "closed-by-peer"
    case .closedByUs: "closed-by-us"
    case .lost: "lost"
    }
  }
}

extension ErrorCode {
  /// The other side is not who we think, or does not want us: trying again soon will not help.
  fileprivate var isRefusal: Bool {
    switch self {
    case .helloInvalid, .helloSkew, .peerSuspended, .versionMismatch, .wrongPeer: true
    default: false
    }
  }
}
