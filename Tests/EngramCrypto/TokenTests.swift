import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Device tokens")
struct TokenTests {
  let alice: TestDevice
  let node: TestNode
  let now = TestTime.startMs

  init() throws {
    alice = try TestDevice("alice@acme.example")
    node = try TestNode("acme.example")
  }

  /// nil: not even parsed.
  private func verdict(_ text: String, node: TestNode? = nil, nowMs: UInt64? = nil) throws -> ErrorCode? {
    try DeviceToken(parsing: text)?.verify(
      key: VerifyingKey(alice.key.publicKey), node: (node ?? self.node).id, nowMs: nowMs ?? now)
  }

  private func token(
    header: String? = nil, claims: [String: String] = [:], extra: String = "", signedBy key: SigningKey? = nil
  ) -> String {
    let seconds = now / 1_000
    var values = [
      "iss": "\"\(alice.address)\"", "sub": "\"\(alice.address)\"", "aud": "\"\(node.id)\"",
      "iat": "\(seconds)",
      "exp": "\(seconds + 60)", "jti": "\"000102030405060708090a0b0c0d0e0f\"",
    ]
    values.merge(claims) { $1 }
    let body = values.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",")
    let head = header ?? "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"\(alice.kid)\"}"
    let input = "\(base64URLEncode(Array(head.utf8))).\(base64URLEncode(Array("{\(body)\(extra)}".utf8)))"
    return "\(input).\(base64URLEncode((key ?? alice.key).sign(over: Array(input.utf8))))"
  }

  @Test("a minted token verifies at its node, in its time, and each has its own id")
  func minted() throws {
    let text = alice.token(node: node.id)
    #expect(try verdict(text) == ErrorCode.none)
    #expect(try verdict(text, node: TestNode("beta.example")) == .tokenInvalid)
    #expect(try verdict(text, nowMs: now + 120_000) == .tokenInvalid)
    #expect(try verdict(text, nowMs: now + 119_999) == ErrorCode.none)
    #expect(try verdict(text, nowMs: now - Limits.clockSkewMs - 1_000) == .tokenInvalid)
    #expect(try verdict(text, nowMs: now - Limits.clockSkewMs) == ErrorCode.none)
    #expect(DeviceToken(parsing: text)?.id != DeviceToken(parsing: alice.token(node: node.id))?.id)
    let longest = DeviceToken.mint(
      address: alice.address, device: alice.key, node: node.id, nowMs: now, seconds: 9_999)
    #expect(DeviceToken(parsing: longest)?.expiresMs == now + 300_000, "a longer life is cut to the limit")
  }

  @Test("other algorithms and critical headers are refused, and embedded keys are never looked at")
  func algorithms() throws {
    #expect(try verdict(token()) == ErrorCode.none, "control: the hand-made token is good")
    for alg in ["none", "None", "HS256", "RS256", "ES256", "eddsa", "Ed25519", ""] {
      #expect(
        try verdict(token(header: "{\"alg\":\"\(alg)\",\"typ\":\"JWT\",\"kid\":\"\(alice.kid)\"}")) == nil)
    }
    #expect(
      try verdict(token(header: "{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"\(alice.kid)\"}")) == nil)
    #expect(
      try verdict(token(header: "{\"alg\":\"EdDSA\",\"kid\":\"\(alice.kid)\",\"crit\":[\"x\"]}")) == nil)
    #expect(try verdict(token(header: "{\"alg\":\"EdDSA\"}")) == nil)
    let mallory = signingKey(named: "mallory")
    let jwk = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"\(base64URLEncode(mallory.publicKey.bytes))\"}"
    let embedded = "{\"alg\":\"EdDSA\",\"kid\":\"\(alice.kid)\",\"jwk\":\(jwk)}"
    #expect(try verdict(token(header: embedded, signedBy: mallory)) == .tokenInvalid)
    #expect(
      try verdict(token(header: embedded)) == ErrorCode.none, "control: the device's own signature counts")
  }

  @Test("an empty signature, a signature by another key, and an HMAC over the public key are refused")
  func signatures() throws {
    let parts = token().split(separator: ".")
    #expect(try verdict("\(parts[0]).\(parts[1]).") == nil)
    #expect(try verdict("\(parts[0]).\(parts[1])") == nil)
    #expect(try verdict(token(signedBy: signingKey(named: "mallory"))) == .tokenInvalid)
    let zeros = base64URLEncode([UInt8](repeating: 0, count: 64))
    #expect(try verdict("\(parts[0]).\(parts[1]).\(zeros)") == .tokenInvalid)
    #expect(try verdict(token() + ".x") == nil)
  }

  @Test("claims that are missing, of another type, or out of bounds are refused")
  func claims() throws {
    let seconds = now / 1_000
    let bad: [[String: String]] = [
      ["exp": "\(seconds + 301)"], ["exp": "\(seconds)"], ["exp": "\(seconds - 1)"],
      ["exp": "\"\(seconds + 60)\""],
      ["iat": "0", "exp": "18446744073709551615"], ["iat": "-1"], ["sub": "\"bob@acme.example\""],
      ["iss": "\"Alice@acme.example\"", "sub": "\"Alice@acme.example\""], ["jti": "\"00\""],
      ["jti": "\"zz\""],
      ["jti": "null"], ["aud": "[\"\(node.id)\"]"],
    ]
    for claims in bad { #expect(try verdict(token(claims: claims)) == nil, "\(claims)") }
    #expect(try verdict(token(claims: ["exp": "\(seconds + 300)"])) == ErrorCode.none, "control")
    #expect(try verdict(token(claims: ["aud": "\"\(TestNode("beta.example").id)\""])) == .tokenInvalid)
    #expect(
      try verdict(token(claims: ["iat": "\(seconds + 301)", "exp": "\(seconds + 400)"])) == .tokenInvalid)
  }

  @Test("base64url has one form: padding, the other alphabet, spare bits and line breaks are refused")
  func base64() throws {
    #expect(base64URLDecode("AA") == [0])
    #expect(base64URLDecode("") == [])
    #expect(base64URLDecode("-_-_") == [0xfb, 0xff, 0xbf])
    for text in ["AB", "AAB", "A", "AA==", "AA=", "+/+/", "AA\n", " AA", "A A", "AÄ", "AAAAA"] {
      #expect(base64URLDecode(text) == nil, "\(text.debugDescription)")
    }
    var generator = SeededGenerator(seed: 3)
    for count in 0..<100 {
      let bytes = generator.bytes(count)
      #expect(base64URLDecode(base64URLEncode(bytes)) == bytes)
    }
    let text = token()
    let last = try #require(text.last)
    // 64 bytes leave four spare bits in the last digit: sixteen texts decode to one signature, fifteen are
    // refused.
    let others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".filter { $0 != last }
    for digit in others {
      #expect(try verdict(String(text.dropLast()) + String(digit)) != ErrorCode.none)
    }
    #expect(try verdict(text + "=") == nil)
  }

  @Test("long input is refused before it is decoded")
  func length() throws {
    #expect(try verdict(token(extra: ",\"x\":\"\(String(repeating: "a", count: 2_000))\"")) == nil)
    #expect(
      try verdict(token(extra: ",\"x\":\"a\"")) == ErrorCode.none, "control: unknown claims are ignored")
  }
}
