package import EngramCore

/// The exporter value that binds a hello to its TLS connection (RFC 8446 section 7.5).
package enum HelloExporter {
  package static let label = "EXPORTER-engram-v1-hello"
  package static let bytes = 32
}

/// `hello = lp(N) lp(Sig(node identity, "hello-sig", N, X))`
package func signHello(_ body: HelloBody, exporter: [UInt8], key: SigningKey) -> [UInt8] {
  let encoded = body.encoded()
  return SignedBytes(body: encoded, signatures: [key.sign("hello-sig", encoded[...], exporter[...])])
    .encoded()
}

/// Parses and verifies a hello against the *pinned* node id: the signature is checked with the key we expect,
/// not with the one the frame names.
package func verifyHello(
  _ bytes: ArraySlice<UInt8>, exporter: [UInt8], pinned: NodeID
) throws(CredentialError) -> HelloBody {
  let signed: SignedBytes
  let body: HelloBody
  do throws(CodecError) {
    signed = try SignedBytes(parsing: bytes, signatureCount: 1, bodyBytesMax: 4 << 10)
    body = try HelloBody(parsing: signed.body[...])
  } catch { throw .codec(error) }
  guard body.nodeID == pinned else { throw .inconsistent(.wrongPeer) }
  do throws(SignatureError) {
    try VerifyingKey(pinned.key).verify(
      signed.signatures[0][...], "hello-sig", signed.body[...], exporter[...])
  } catch { throw .signature(error) }
  return body
}

/// `lp(D) lp(Sig(node identity, "directory-sig", D))`
package func signDirectoryAnswer(_ body: DirectoryAnswerBody, key: SigningKey) -> [UInt8] {
  let encoded = body.encoded()
  return SignedBytes(body: encoded, signatures: [key.sign("directory-sig", encoded[...])]).encoded()
}

/// A directory answer whose node signature holds under the key it names; `pinned` nil means first contact,
/// where the caller pins what it got.
package func verifyDirectoryAnswer(
  _ bytes: ArraySlice<UInt8>, pinned: NodeID?
) throws(CredentialError) -> DirectoryAnswerBody {
  let signed: SignedBytes
  let body: DirectoryAnswerBody
  do throws(CodecError) {
    signed = try SignedBytes(
      parsing: bytes, signatureCount: 1, bodyBytesMax: DirectoryAnswerBody.bytesMax)
    body = try DirectoryAnswerBody(parsing: signed.body[...])
  } catch { throw .codec(error) }
  guard pinned == nil || pinned == body.nodeID, body.address.node == body.node else {
    throw .inconsistent(.wrongPeer)
  }
  do throws(SignatureError) {
    try VerifyingKey(body.nodeID.key).verify(signed.signatures[0][...], "directory-sig", signed.body[...])
  } catch { throw .signature(error) }
  return body
}
