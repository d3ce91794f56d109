/// Every bound of the protocol, with its unit and its reason. Tuning that an operator may change lives in
/// `federation.toml`; these are part of the format and the same everywhere.
package enum Limits {
  /// RFC 1035 section 2.3.4, without the trailing dot.
  package static let nodeNameBytesMax = 253
  /// 63 for the name, one for `@`.
  package static let addressBytesMax = nodeNameBytesMax + 64

  /// 10 MB of body, its padding (Padmé adds at most 12 %) and a full header fit.
  package static let envelopeBytesMax = 16 << 20
  /// Inline bodies; more goes into attachments.
  package static let bodyBytesMax = 10 << 20
  /// A MIME type with parameters; longer ones serve nobody.
  package static let contentTypeBytesMax = 255
  /// A header with `recipientsMax` long addresses stays below this.
  package static let headerBytesMax = 512 << 10
  /// One wrap each (153 bytes); larger audiences are topics.
  package static let recipientsMax = 1_000
  package static let labelsMax = 16
  package static let labelValueBytesMax = 256
  package static let attachmentsMax = 64
  package static let topicBytesMax = 255
  /// As long as a label of a DNS name and one more; words, not sentences.
  package static let topicTokenBytesMax = 64
  /// Members of a topic in one answer: with addresses of the greatest length it still fits into
  /// `responseBytesMax` by the bytes that a page is cut at.
  package static let topicMembersPerPageMax = 1_000
  /// Publishers told of one new member in one request.
  package static let topicNoticesPerRequestMax = 100
  /// A request between nodes is about one client and one thing.
  package static let requestBytesMax = 64 << 10
  /// Fits with room to spare into the smallest frame that a peer may allow (320 KiB).
  package static let responseBytesMax = 256 << 10

  /// `lp(K) || lp(hH[0..<16]) || lp(seq) || lp(prev)` plus the 48 bytes of `crypto_box_seal`.
  package static let wrapBytes = 36 + 20 + 12 + 36 + 48
  /// 24 bytes of nonce and 16 of tag.
  package static let ciphertextOverhead = 40
  package static let signatureBytes = 64
  /// Hides the length of short messages: everything below is this long.
  package static let paddedBytesMin = 256
  /// Below this, compression saves less than padding adds.
  package static let compressionBytesMin = 4 << 10

  /// How far a sender's clock may run ahead of ours.
  package static let clockSkewMs: UInt64 = 5 * 60 * 1_000
  /// The longest time a message may wait.
  package static let ttlMsMax: UInt64 = 30 * 24 * 3_600 * 1_000
  /// Deduplication rows outlive the message by this much, twice the skew.
  package static let dedupeGraceMs: UInt64 = 10 * 60 * 1_000
  package static let deviceListValidityMsMax: UInt64 = 30 * 24 * 3_600 * 1_000
  package static let prekeyValidityMsMax: UInt64 = 30 * 24 * 3_600 * 1_000

  package static let devicesPerClientMax = 16
  package static let suitesMax = 8
  package static let oneTimePrekeysPerUploadMax = 200
  /// A sentence, in memory for every agent.
  package static let presenceNoteBytesMax = 200
  package static let certificateBytesMax = 2 << 10
  package static let deviceListBytesMax = 4 << 10
  package static let prekeyBytesMax = 1 << 10
  package static let inviteTokenBytesMax = 128

  /// 2^20 receipts under one signature is more than any group commit holds.
  package static let receiptPathDepthMax = 20
  package static let receiptBytesMax = 4 << 10
  /// Receipts that a device signs together: a path of 8, at most 256 bytes more in each, and each one's share
  /// of a verification is then a quarter of a microsecond.
  package static let deviceReceiptsPerSignatureMax = 256

  /// Small enough that a frame never delays another one by more than a few milliseconds.
  package static let frameBytesMax = 1 << 20
  /// Envelopes in one deliver frame, outcomes in one ack: bounds the group that one frame can add to a
  /// commit.
  package static let envelopesPerBatchMax = 1_000
  /// Payload of one `part` frame; other frames pass between parts.
  package static let partBytesMax = 256 << 10
  /// Messages in one consumer's hands at the same time: what a group commit can settle at once.
  package static let prefetchMax = 1_000
  /// Shorter leases would run out while an answer is on its way.
  package static let visibilityMsMin: UInt64 = 1_000
  package static let visibilityMsMax: UInt64 = 12 * 3_600 * 1_000
  package static let visibilityMsDefault: UInt64 = 30_000
  /// A topic, an address and what frames them.
  package static let noticeBytesMax = 1 << 10

  /// Critical extensions are refused whole, so the field needs room for none.
  package static let criticalExtensionBytesMax = 1 << 10
}
