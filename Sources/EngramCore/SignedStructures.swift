/// A signed structure as it travels: the signed bytes and the signatures, each length-prefixed. Parsing
/// checks form only; `EngramCrypto` turns these into verified values.
package struct SignedBytes: Equatable, Sendable {
  package var body: [UInt8]
  package var signatures: [[UInt8]]

  package init(body: [UInt8], signatures: [[UInt8]]) { (self.body, self.signatures) = (body, signatures) }

  package init(
    parsing bytes: ArraySlice<UInt8>, signatureCount: Int, bodyBytesMax: Int
  ) throws(CodecError) {
    var r = FieldReader(bytes)
    body = Array(try r.field(max: bodyBytesMax))
    signatures = []
    for _ in 0..<signatureCount {
      let signature = try r.field(max: Limits.signatureBytes)
      guard signature.count == Limits.signatureBytes else { throw .wrongLength }
      signatures.append(Array(signature))
    }
    try r.finish()
  }

  package func encoded() -> [UInt8] {
    fields(capacity: body.count + 80 * signatures.count) { w in
      w.field(body)
      for signature in signatures { w.field(signature) }
    }
  }
}

/// Everything a sender needs to seal for one device:
/// `device list | device certificate | signed prekey | one-time prekey or empty`.
package struct PrekeyBundle: Equatable, Sendable {
  package var deviceList: [UInt8]
  package var certificate: [UInt8]
  package var signedPrekey: [UInt8]
  package var oneTimePrekey: [UInt8]?

  package init(
    deviceList: [UInt8], certificate: [UInt8], signedPrekey: [UInt8], oneTimePrekey: [UInt8]? = nil
  ) {
    (self.deviceList, self.certificate) = (deviceList, certificate)
    (self.signedPrekey, self.oneTimePrekey) = (signedPrekey, oneTimePrekey)
  }

  package func encoded() -> [UInt8] {
    fields { w in
      w.field(deviceList)
      w.field(certificate)
      w.field(signedPrekey)
      w.field(oneTimePrekey ?? [])
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    deviceList = Array(try r.field(max: Limits.deviceListBytesMax))
    certificate = Array(try r.field(max: Limits.certificateBytesMax))
    signedPrekey = Array(try r.field(max: Limits.prekeyBytesMax))
    let oneTime = try r.field(max: Limits.prekeyBytesMax)
    oneTimePrekey = oneTime.isEmpty ? nil : Array(oneTime)
    try r.finish()
  }
}

/// `device certificate | device list | lp(Sig(identity, "register-sig", …))`, sent with the invite token and
/// the device's first signed prekey: `invite token | registration | signed prekey`.
package struct RegistrationRequest: Equatable, Sendable {
  package var inviteToken: [UInt8]
  package var certificate: [UInt8]
  package var deviceList: [UInt8]
  package var signature: [UInt8]
  package var signedPrekey: [UInt8]

  package init(
    inviteToken: [UInt8], certificate: [UInt8], deviceList: [UInt8], signature: [UInt8], signedPrekey: [UInt8]
  ) {
    (self.inviteToken, self.certificate, self.deviceList) = (inviteToken, certificate, deviceList)
    (self.signature, self.signedPrekey) = (signature, signedPrekey)
  }

  package func encoded() -> [UInt8] {
    fields { w in
      w.field(inviteToken)
      w.list {
        $0.field(certificate)
        $0.field(deviceList)
        $0.field(signature)
      }
      w.field(signedPrekey)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    inviteToken = Array(try r.field(max: Limits.inviteTokenBytesMax))
    (certificate, deviceList, signature) = try parse(try r.field()) { (inner) throws(CodecError) in
      (
        Array(try inner.field(max: Limits.certificateBytesMax)),
        Array(try inner.field(max: Limits.deviceListBytesMax)),
        Array(try inner.field(max: Limits.signatureBytes))
      )
    }
    signedPrekey = Array(try r.field(max: Limits.prekeyBytesMax))
    try r.finish()
  }
}

/// A node's answer about one of its own clients, countersigned: `lp(D) lp(Sig(node identity, "directory-sig",
/// D))`. `D = node name | node id | address | issued_ms | list of bundles`; no bundles means "not known
/// here".
package struct DirectoryAnswerBody: Equatable, Sendable {
  package var node: NodeName
  package var nodeID: NodeID
  package var address: Address
  package var issuedMs: UInt64
  package var bundles: [PrekeyBundle]

  package init(node: NodeName, nodeID: NodeID, address: Address, issuedMs: UInt64, bundles: [PrekeyBundle]) {
    (self.node, self.nodeID, self.address) = (node, nodeID, address)
    (self.issuedMs, self.bundles) = (issuedMs, bundles)
  }

  package static let bytesMax = 256 << 10

  package func encoded() -> [UInt8] {
    fields(capacity: 1_024 * (1 + bundles.count)) { w in
      w.field(node.text)
      w.field(nodeID.bytes)
      w.field(address.text)
      w.field(issuedMs)
      w.list { list in for bundle in bundles { list.field(bundle.encoded()) } }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    node = try NodeName(try r.field(max: Limits.nodeNameBytesMax))
    nodeID = try NodeID(try r.field(max: 32))
    address = try Address(try r.field(max: Limits.addressBytesMax))
    issuedMs = try r.integer()
    var bundles: [PrekeyBundle] = []
    try r.list(maxCount: Limits.devicesPerClientMax) { (list) throws(CodecError) in
      bundles.append(try PrekeyBundle(parsing: try list.field()))
    }
    self.bundles = bundles
    try r.finish()
  }
}
