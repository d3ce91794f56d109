internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import Glibc

/// A client of one Engram node on one device: it seals, signs, opens and verifies here, and nowhere else.
///
/// ```swift
/// let client = try EngramClient.open(home: "/home/me/.engram", passphrase: nil)
/// let sent = try await client.send(to: ["worker@globex.example"], body: Array("hello".utf8))
/// for try await message in client.follow() {
///   print(message.from, String(decoding: message.body, as: UTF8.self))
///   try await client.acknowledge([message.envelopeID])
/// }
/// ```
///
/// What `send` returns is durable in `<home>/client.db` before the first byte leaves, and is sent again by
/// later calls until the node has signed for it. A received message is handed out until it is acknowledged,
/// and never again afterwards. Several processes may share a home; one at a time receives.
public final class EngramClient: Sendable {
  let core: ClientCore
  let mailbox: Mailbox

  /// `name@node`
  public var address: String { core.account.address.text }

  init(core: ClientCore) {
    self.core = core
    mailbox = Mailbox(core: core)
  }

  /// Opens the home of a registered client. Nothing is sent yet.
  /// - Throws: `EngramError` of kind `local`.
  public static func open(home: String, passphrase: String? = nil) throws -> EngramClient {
    try publicly {
      let (store, account, keys) = try openHome(home, passphrase)
      guard !account.isWaitingForApproval else { throw EngramError.notApproved }
      guard account.pendingRegistration == nil else {
        throw EngramError(
          .local, name: "not-registered", "the registration of this home was never answered",
          hint: "run the same `engram init` again")
      }
      let transport = try NodeTransport.tls(account, home: home)
      return EngramClient(
        core: ClientCore(
          store: store, account: account, keys: keys, transport: transport, nowMs: systemNowMs))
    }
  }

  /// Whether `open` needs a passphrase.
  public static func needsPassphrase(home: String) throws -> Bool {
    try publicly {
      guard ClientKeys.exists(home: home) else { throw ClientStoreError.notInitialised }
      return try ClientKeys.isEncrypted(home: home)
    }
  }

  static func openHome(_ home: String, _ passphrase: String?) throws -> (ClientStore, AccountRow, ClientKeys)
  {
    guard ClientKeys.exists(home: home) else { throw ClientStoreError.notInitialised }
    let keys = try ClientKeys(home: home, passphrase: passphrase.map { Array($0.utf8) })
    let store = try ClientStore(home: home, storageKey: keys.storageKey)
    return (store, try store.read { try $0.account() }, keys)
  }

  /// Ends connections and closes the database. Other calls fail afterwards.
  public func close() async {
    await mailbox.end()
    await core.api.transport.close()
    try? core.store.close()
  }

  /// Who this device is.
  public func whoami() -> Account {
    let account = core.account
    return Account(
      address: account.address.text, identityKey: hex(account.identity.bytes),
      device: account.kid.description,
      node: account.address.node.text, nodeID: account.nodeID.description, endpoint: account.endpoint,
      home: core.store.home)
  }
}

extension NodeTransport {
  static func tls(_ account: AccountRow, home: String) throws -> NodeTransport {
    let endpoint = try HostPort(account.endpoint)
    return try .tls(
      host: endpoint.host, port: endpoint.port, serverName: account.serverName, caFile: caPath(home))
  }

  static func caPath(_ home: String) -> String { home + "/ca.pem" }
}

/// `HOST:PORT`, `[v6]:PORT`.
struct HostPort: Equatable, Sendable {
  let host: String
  let port: Int

  init(_ text: String) throws {
    guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
      (1...65_535).contains(port)
    else { throw Self.malformed }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { throw Self.malformed }
    (self.host, self.port) = (String(host), port)
  }

  private static var malformed: EngramError {
    EngramError(
      .badInput, name: "bad-endpoint", "the node's address has the form HOST:PORT",
      hint: "for instance 127.0.0.1:7443")
  }
}

/// How long a caller is ready to wait, by a clock that nobody sets.
struct Deadline: Sendable {
  private let end: ContinuousClock.Instant

  init(seconds: Int) { end = .now + .seconds(max(seconds, 0)) }

  var hasPassed: Bool { ContinuousClock.now >= end }

  /// For the next poll: what is left in whole seconds, rounded up, at most what a node holds a poll for.
  var pollSeconds: Int {
    let left = ContinuousClock.now.duration(to: end).components
    guard left.seconds >= 0, left.attoseconds >= 0 else { return 0 }
    return Int(min(left.seconds + (left.attoseconds > 0 ? 1 : 0), Int64(ClientLimits.pollSecondsMax)))
  }
}

/// The system's clock, in milliseconds since 1970.
@Sendable func systemNowMs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec) / 1_000_000
}

/// Lets nothing but `EngramError` out of the library.
func publicly<T>(_ body: () throws -> T) throws -> T {
  do { return try body() } catch { throw EngramError(error) }
}

func publicly<T>(isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> T) async throws
  -> T
{
  do { return try await body() } catch { throw EngramError(error) }
}
