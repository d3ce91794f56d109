internal import EngramCore
internal import EngramCrypto

/// A device that asks to be one of a client's.
public struct DeviceRequestInfo: Sendable {
  public let address: String
  /// Of the new device.
  public let device: String
  public let nodeID: String
  /// Four groups of five digits. Both sides have to show the same: otherwise somebody exchanged the request
  /// on its way.
  public let comparisonCode: String
  public let createdMs: UInt64
  /// The request itself, one line of text. No secret.
  public let text: String
}

/// What the new device needs in order to go on.
public struct DeviceApproval: Sendable {
  public let request: DeviceRequestInfo
  public let deviceListVersion: UInt64
  /// The answer, one line of text. No secret.
  public let text: String
}

/// One device of this client, as its newest list has it.
public struct ClientDevice: Sendable {
  public enum State: String, Sendable { case active, revoked }
  public let device: String
  public let state: State
  public let sinceMs: UInt64
  /// The one that asks.
  public let isThis: Bool
  /// The identity key lies beside this one, as far as is known here.
  public let holdsIdentity: Bool
  /// nil while the device offers no key that messages could be sealed for.
  public let prekeyNotAfterMs: UInt64?
}

/// This client's devices.
public struct ClientDevices: Sendable {
  public let address: String
  public let identityKey: String
  public let listVersion: UInt64
  public let listValidUntilMs: UInt64
  /// Where the list can be changed and is signed anew: this home, or the words with which another one
  /// approved this device.
  public let identityHome: String
  public let devices: [ClientDevice]
}

extension DeviceRequestInfo {
  init(_ request: DeviceRequest) {
    self.init(
      address: request.body.address.text, device: request.kid.description, nodeID: request.node.description,
      comparisonCode: request.comparisonCode, createdMs: request.body.notBeforeMs,
      text: DeviceFile.request.armoured(request.bytes))
  }
}

/// The two files, as lines that survive being pasted: a word, a space, base64url.
enum DeviceFile: String {
  case request = "engram-device-request-v1"
  case answer = "engram-device-answer-v1"

  func armoured(_ bytes: [UInt8]) -> String { "\(rawValue) \(base64URLEncode(bytes))" }

  func bytes(in text: String) throws -> [UInt8] {
    let words = text.split(whereSeparator: \.isWhitespace)
    guard words.count == 2, words[0] == rawValue, let bytes = base64URLDecode(String(words[1])) else {
      throw EngramError(
        .badInput, name: "bad-\(self)-file", "this is not a device \(self)",
        hint: self == .request
          ? "`engram device request` writes one in the new device's home"
          : "`engram device approve FILE` writes one in the home with the identity key")
    }
    return bytes
  }
}

extension EngramError {
  static var notApproved: EngramError {
    EngramError(
      .local, name: "not-approved", "this device waits for the approval of its client's identity key",
      hint: "run `engram device approve FILE` in the home that has it, then `engram device accept FILE` here")
  }

  static var homeOfFurtherDevice: EngramError {
    EngramError(
      .badInput, name: "already-registered", "this home is that of a further device of a client",
      hint: "give another client a home of its own with --home")
  }

  static func noIdentityKey(_ address: Address, _ place: String) -> EngramError {
    EngramError(
      .local, name: "no-identity-key", "the identity key of \(address.text) is not in this home",
      hint: "run this in \(place)")
  }
}
