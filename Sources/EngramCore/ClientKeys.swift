/// `DC`: what a client's identity key says about one of its devices.
package struct DeviceCertificateBody: Equatable, Sendable {
  package var address: Address
  package var identity: SigningPublicKey
  package var signing: SigningPublicKey
  package var serial: UInt64
  package var notBeforeMs: UInt64
  package var notAfterMs: UInt64
  package var suites: [UInt8]

  package init(
    address: Address, identity: SigningPublicKey, signing: SigningPublicKey, serial: UInt64,
    notBeforeMs: UInt64, notAfterMs: UInt64, suites: [UInt8] = [Suite.one.rawValue]
  ) {
    (self.address, self.identity, self.signing, self.serial) = (address, identity, signing, serial)
    (self.notBeforeMs, self.notAfterMs, self.suites) = (notBeforeMs, notAfterMs, suites)
  }

  private static let version: UInt8 = 1

  package func encoded() -> [UInt8] {
    fields { w in
      w.field(Self.version)
      w.field(address.text)
      w.field(identity.bytes)
      w.field(signing.bytes)
      w.field(serial)
      w.field(notBeforeMs)
      w.field(notAfterMs)
      w.field(suites)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    guard try r.integer(UInt8.self) == Self.version else { throw .unknownValue }
    address = try Address(try r.field(max: Limits.addressBytesMax))
    identity = try SigningPublicKey(field: try r.field(max: 32))
    signing = try SigningPublicKey(field: try r.field(max: 32))
    serial = try r.integer()
    notBeforeMs = try r.integer()
    notAfterMs = try r.integer()
    suites = Array(try r.field(max: Limits.suitesMax))
    guard !suites.isEmpty, zip(suites, suites.dropFirst()).allSatisfy({ $0 < $1 }) else {
      throw .nonCanonical
    }
    try r.finish()
  }
}

package enum DeviceState: UInt8, Sendable {
  case active = 1
  case revoked = 2
}

/// `DL`: the client's own statement of which devices count now.
package struct DeviceListBody: Equatable, Sendable {
  package struct Entry: Equatable, Sendable {
    package var kid: Kid
    package var state: DeviceState
    package var sinceMs: UInt64
    package init(kid: Kid, state: DeviceState, sinceMs: UInt64) {
      (self.kid, self.state, self.sinceMs) = (kid, state, sinceMs)
    }
  }

  package var address: Address
  package var identity: SigningPublicKey
  package var version: UInt64
  package var issuedMs: UInt64
  package var validUntilMs: UInt64
  package var entries: [Entry]

  package init(
    address: Address, identity: SigningPublicKey, version: UInt64, issuedMs: UInt64, validUntilMs: UInt64,
    entries: [Entry]
  ) {
    (self.address, self.identity, self.version) = (address, identity, version)
    (self.issuedMs, self.validUntilMs, self.entries) = (issuedMs, validUntilMs, entries)
  }

  package func isActive(_ kid: Kid) -> Bool { entries.contains { $0.kid == kid && $0.state == .active } }

  package func encoded() -> [UInt8] {
    fields { w in
      w.field(address.text)
      w.field(identity.bytes)
      w.field(version)
      w.field(issuedMs)
      w.field(validUntilMs)
      w.list { list in
        for entry in entries {
          list.list {
            $0.field(entry.kid.bytes)
            $0.field(entry.state.rawValue)
            $0.field(entry.sinceMs)
          }
        }
      }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    address = try Address(try r.field(max: Limits.addressBytesMax))
    identity = try SigningPublicKey(field: try r.field(max: 32))
    version = try r.integer()
    issuedMs = try r.integer()
    validUntilMs = try r.integer()
    var entries: [Entry] = []
    try r.list(maxCount: Limits.devicesPerClientMax) { (list) throws(CodecError) in
      let entry = try parse(try list.field()) { (item) throws(CodecError) in
        Entry(
          kid: try Kid(field: try item.field(max: 16)),
          state: try known(DeviceState(rawValue: try item.integer())),
          sinceMs: try item.integer())
      }
      if let last = entries.last, last.kid >= entry.kid { throw .nonCanonical }
      entries.append(entry)
    }
    self.entries = entries
    guard validUntilMs > issuedMs, validUntilMs - issuedMs <= Limits.deviceListValidityMsMax else {
      throw .nonCanonical
    }
    try r.finish()
  }
}

/// `PK`: an X25519 key that a device offers to be sealed to.
package struct PrekeyBody: Equatable, Sendable {
  package var kind: PrekeyKind
  package var address: Address
  package var kid: Kid
  package var id: PrekeyID
  package var key: SealingPublicKey
  package var notBeforeMs: UInt64
  package var notAfterMs: UInt64

  package init(
    kind: PrekeyKind, address: Address, kid: Kid, id: PrekeyID, key: SealingPublicKey, notBeforeMs: UInt64,
    notAfterMs: UInt64
  ) {
    (self.kind, self.address, self.kid, self.id) = (kind, address, kid, id)
    (self.key, self.notBeforeMs, self.notAfterMs) = (key, notBeforeMs, notAfterMs)
  }

  package func encoded() -> [UInt8] {
    fields { w in
      w.field(Suite.one.rawValue)
      w.field(kind.rawValue)
      w.field(address.text)
      w.field(kid.bytes)
      w.field(id.bytes)
      w.field(key.bytes)
      w.field(notBeforeMs)
      w.field(notAfterMs)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    guard Suite(rawValue: try r.integer()) != nil else { throw .unknownSuite }
    kind = try known(PrekeyKind(rawValue: try r.integer()))
    address = try Address(try r.field(max: Limits.addressBytesMax))
    kid = try Kid(field: try r.field(max: 16))
    id = try PrekeyID(field: try r.field(max: 16))
    key = try SealingPublicKey(field: try r.field(max: 32))
    notBeforeMs = try r.integer()
    notAfterMs = try r.integer()
    guard notAfterMs > notBeforeMs, notAfterMs - notBeforeMs <= Limits.prekeyValidityMsMax else {
      throw .nonCanonical
    }
    try r.finish()
  }
}
