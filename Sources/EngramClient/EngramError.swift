internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import Glibc

/// Why the client could not do what it was asked. Carries codes and limits, never bodies, keys or tokens.
public struct EngramError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Whose turn it is.
  public enum Kind: Sendable {
    /// The caller gave something that cannot be used.
    case badInput
    /// This machine: the home, its key file or its disk.
    case local
    /// The node answered, and the answer is no.
    case refused
    /// The node could not be reached, or asked to try again later.
    case unreachable
    /// Somebody is not who they should be, or cannot prove it.
    case untrusted
  }

  public let kind: Kind
  /// The stable number of the protocol's registry, 0 for what happens on this machine only.
  public let code: UInt16
  /// The code's name in kebab-case, `identity-changed` for instance.
  public let name: String
  /// One sentence, lower case, no final stop.
  public let message: String
  /// What to do about it, where there is something to do.
  public let hint: String?

  public var description: String { message }

  init(_ kind: Kind, name: String, _ message: String, hint: String? = nil) {
    (self.kind, code, self.name) = (kind, 0, name)
    (self.message, self.hint) = (message, hint)
  }

  init(_ kind: Kind, _ code: ErrorCode, hint: String? = nil) {
    (self.kind, self.code, name) = (kind, code.rawValue, code.name)
    (message, self.hint) = (code.sentence, hint ?? code.hint)
  }

  /// A code of the registry with a sentence that says more than the registry's.
  init(_ kind: Kind, _ code: ErrorCode, saying message: String, hint: String?) {
    (self.kind, self.code, name) = (kind, code.rawValue, code.name)
    (self.message, self.hint) = (message, hint)
  }

  /// What the node refused: its code decides between "no" and "not now".
  init(refusal code: ErrorCode) {
    self.init(Self.kind(ofRefusal: code), code)
  }

  /// The answer to an acknowledgement that came too late.
  /// - Parameter code: `none` when the node only says that there is nothing to acknowledge any more.
  init(lateWord code: ErrorCode) {
    let hint =
      "it is not shown again; `processed` is signed and stands against what a node may have told the sender"
    switch code {
    case .none, .notFound:
      self.init(
        .refused, name: "delivery-gone",
        "the node had ended the delivery before the message was acknowledged", hint: hint)
    case .expired:
      self.init(.refused, code, saying: "the message expired before it was acknowledged", hint: hint)
    default: self.init(refusal: code)
    }
  }

  /// A device that the node does not know stays unknown, however often it asks.
  static func kind(ofRefusal code: ErrorCode) -> Kind {
    code.isRetryable && code != .unknownDevice ? .unreachable : .refused
  }

  var registered: ErrorCode { ErrorCode(rawValue: code) ?? .none }
}

extension EngramError {
  /// What the layers below throw, as what it means for the user of this library.
  init(_ error: any Error) {
    switch error {
    case let error as EngramError: self = error
    case let error as ClientStoreError: self.init(store: error)
    case let error as KeyFileError: self.init(keyFile: error)
    case let error as CredentialError: self.init(.untrusted, error.code)
    case let error as CodecError: self.init(.untrusted, error.code)
    case is CancellationError: self.init(.local, name: "cancelled", "cancelled")
    default: self.init(.local, .internalError)
    }
  }

  private init(store error: ClientStoreError) {
    switch error {
    case .busy:
      self.init(
        .local, name: "home-busy", "another command is using this home",
        hint: "wait for it to end, or give this one a home of its own with --home")
    case .damaged:
      self.init(
        .local, name: "home-damaged", "the client database is damaged or was written under another key",
        hint: "client.key and client.db belong together; restore neither alone")
    case .full:
      self.init(.local, name: "disk-full", "there is no room for more messages", hint: "free disk space")
    case .notInitialised:
      self.init(
        .local, name: "not-initialised", "there is no account in this home",
        hint: "run `engram init --node HOST:PORT --ca FILE --invite TOKEN`, or name the home with --home")
    case .notDurable:
      self.init(
        .local, name: "not-durable", "the database cannot be made to write durably on this file system")
    case .schemaTooNew:
      self.init(
        .local, name: "home-too-new", "this home was written by a newer version", hint: "update this program")
    case .unreadable(let errno):
      self.init(
        .local, name: "home-unreadable",
        "a file of the home cannot be read or written: \(String(cString: strerror(errno)))",
        hint: "the folder and what is in it have to belong to this user")
    case .failed(let code):
      self.init(.local, name: "database-failed", "the client database failed (sqlite code \(code))")
    }
  }

  private init(keyFile error: KeyFileError) {
    switch error {
    case .malformed, .wrongKind:
      self.init(.local, name: "key-file", "client.key is not a key file of a client")
    case .outOfMemory:
      self.init(.local, name: "key-file-memory", "there is not enough memory to derive the key (256 MiB)")
    case .passphraseNeeded:
      self.init(
        .local, name: "passphrase-needed", "the key file is protected by a passphrase",
        hint: "set ENGRAM_PASSPHRASE_FILE, or run in a terminal to be asked")
    case .wrongPassphrase: self.init(.local, name: "wrong-passphrase", "the passphrase is not the right one")
    }
  }
}
