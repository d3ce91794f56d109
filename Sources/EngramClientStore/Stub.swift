package import EngramCore
internal import EngramCrypto

/// The same envelope without its body: what is kept of a message that others hold, to close gaps in chains.
func stubBytes(_ envelope: UnverifiedEnvelope) -> [UInt8] {
  assembleEnvelope(
    header: envelope.headerBytes, slots: envelope.slots,
    body: .stub(EnvelopeDigests(of: envelope).ciphertext), signature: envelope.signature)
}

/// The stub for one device of its recipients: the wraps of all others are hashes.
package func stubBytes(of envelope: UnverifiedEnvelope, for kid: Kid) throws(CodecError) -> [UInt8] {
  pruneEnvelope(try UnverifiedEnvelope(parsing: stubBytes(envelope)), keeping: { $0.kid == kid })
}
