package import EngramCore
internal import FoundationEssentials

/// A short-lived EdDSA JSON Web Token (RFC 7519, RFC 8037) with which a device opens a session: signed by the
/// device key, for one node, used once. Only `alg` = EdDSA is known; `jwk`, `jku`, `x5u` and the like are
/// never looked at.
package struct DeviceToken: Sendable {
  package let kid: Kid
  package let address: Address
  package let audience: String
  package let issuedMs: UInt64
  package let expiresMs: UInt64
  /// 16 random bytes; a second use is refused.
  package let id: [UInt8]
  private let signingInput: [UInt8]
  private let signature: [UInt8]

  /// Seconds from `iat` to `exp` at most.
  package static let lifetimeSecondsMax: UInt64 = 300
  private static let bytesMax = 2_048

  private struct Header: Codable {
    var alg: String
    var typ: String?
    var kid: String
    var crit: [String]?
  }
  private struct Claims: Codable {
    var iss: String
    var sub: String
    var aud: String
    var iat: UInt64
    var exp: UInt64
    var jti: String
  }

  /// Signs a token for `node`, valid for `seconds` from now.
  package static func mint(
    address: Address, device: SigningKey, node: NodeID, nowMs: UInt64, seconds: UInt64 = 120
  ) -> String {
    let now = nowMs / 1_000
    let header = Header(alg: "EdDSA", typ: "JWT", kid: device.kid.description)
    let claims = Claims(
      iss: address.text, sub: address.text, aud: node.description, iat: now,
      exp: now + min(seconds, lifetimeSecondsMax), jti: hex(randomBytes(16)))
    let input = "\(segment(header)).\(segment(claims))"
    return "\(input).\(base64URLEncode(device.sign(over: Array(input.utf8))))"
  }

  /// Parses without believing: `verify` comes next.
  package init?(parsing text: String) {
    guard text.utf8.count <= Self.bytesMax else { return nil }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let headerBytes = base64URLDecode(parts[0]),
      let claimBytes = base64URLDecode(parts[1]),
      let signature = base64URLDecode(parts[2]), signature.count == Limits.signatureBytes,
      let header = try? JSONDecoder().decode(Header.self, from: Data(headerBytes)),
      let claims = try? JSONDecoder().decode(Claims.self, from: Data(claimBytes)),
      header.alg == "EdDSA", header.typ == nil || header.typ == "JWT", header.crit == nil,
      let kidBytes = bytes(hex: header.kid), let kid = Kid(kidBytes), claims.iss == claims.sub,
      let address = try? Address(claims.sub), let id = bytes(hex: claims.jti), id.count == 16,
      claims.exp > claims.iat, claims.exp - claims.iat <= Self.lifetimeSecondsMax, claims.exp < 1 << 40
    else { return nil }
    (self.kid, self.address, audience, self.id) = (kid, address, claims.aud, id)
    (issuedMs, expiresMs) = (claims.iat * 1_000, claims.exp * 1_000)
    signingInput = Array("\(parts[0]).\(parts[1])".utf8)
    self.signature = signature
  }

  /// Signature, audience and times; single use is the caller's to check.
  package func verify(key: VerifyingKey, node: NodeID, nowMs: UInt64) -> ErrorCode {
    guard audience == node.description, nowMs < expiresMs, issuedMs <= nowMs + Limits.clockSkewMs,
      (try? key.verify(signature[...], over: signingInput)) != nil
    else { return .tokenInvalid }
    return .none
  }

  private static func segment(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(value) else {
      preconditionFailure("strings and integers always encode")
    }
    return base64URLEncode(Array(data))
  }
}

/// base64url without padding, RFC 4648 section 5.
package func base64URLEncode(_ bytes: [UInt8]) -> String {
  Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
    "=", with: "")
}

/// The inverse; refuses padding, the standard alphabet, and non-zero spare bits.
package func base64URLDecode(_ text: some StringProtocol) -> [UInt8]? {
  guard text.utf8.count % 4 != 1, !text.contains(where: { "+/=".contains($0) }) else { return nil }
  let standard = String(text).replacing("-", with: "+").replacing("_", with: "/")
  let padding = String(repeating: "=", count: (4 - standard.utf8.count % 4) % 4)
  guard let data = Data(base64Encoded: standard + padding) else { return nil }
  let bytes = Array(data)
  return base64URLEncode(bytes) == text ? bytes : nil
}
