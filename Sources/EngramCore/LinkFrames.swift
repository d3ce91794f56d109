/// `receiptsAck = epoch | through`: receipts up to and including `through` are committed.
package struct ReceiptsAckFrame: Equatable, Sendable {
  package var epoch: UInt64
  package var through: UInt64
  package init(epoch: UInt64, through: UInt64) { (self.epoch, self.through) = (epoch, through) }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(epoch)
      $0.field(through)
    }
  }
  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (epoch, through) = try parse(bytes) { (r) throws(CodecError) in (try r.integer(), try r.integer()) }
  }
}

/// `directoryQuery = request u32 | address`
package struct DirectoryQueryFrame: Equatable, Sendable {
  package var request: UInt32
  package var address: Address
  package init(request: UInt32, address: Address) { (self.request, self.address) = (request, address) }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(request)
      $0.field(address.text)
    }
  }
  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (request, address) = try parse(bytes) { (r) throws(CodecError) in
      (try r.integer(), try Address(try r.field(max: Limits.addressBytesMax)))
    }
  }
}

/// `directoryAnswer = request u32 | code u16 | signed answer or empty`
package struct DirectoryAnswerFrame: Equatable, Sendable {
  package var request: UInt32
  package var code: ErrorCode
  package var answer: [UInt8]
  package init(request: UInt32, code: ErrorCode, answer: [UInt8]) {
    (self.request, self.code, self.answer) = (request, code, answer)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: answer.count + 32) {
      $0.field(request)
      $0.field(code.rawValue)
      $0.field(answer)
    }
  }
  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (request, code, answer) = try parse(bytes) { (r) throws(CodecError) in
      (
        try r.integer(), ErrorCode(received: try r.integer()),
        Array(try r.field(max: DirectoryAnswerBody.bytesMax))
      )
    }
  }
}

/// `certificate = device certificate | device list`: sent once per link and device before the first envelope
/// that needs it, and handed to the recipient in the same form.
package struct CertificateItem: Equatable, Hashable, Sendable {
  package var certificate: [UInt8]
  package var deviceList: [UInt8]
  package init(certificate: [UInt8], deviceList: [UInt8]) {
    (self.certificate, self.deviceList) = (certificate, deviceList)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: certificate.count + deviceList.count + 8) {
      $0.field(certificate)
      $0.field(deviceList)
    }
  }
  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (certificate, deviceList) = try parse(bytes) { (r) throws(CodecError) in
      (
        Array(try r.field(max: Limits.certificateBytesMax)),
        Array(try r.field(max: Limits.deviceListBytesMax))
      )
    }
  }
}

/// `part = stream u32 | first seq u64 | total u32 | offset u32 | bytes`: a slice of one deliver frame that is
/// larger than a frame may be. Offsets ascend without holes; the last part ends at `total`. The assembled
/// bytes are the payload of a deliver frame with one envelope whose sequence number is `firstSeq`.
package struct PartFrame: Equatable, Sendable {
  package var stream: UInt32
  package var firstSeq: UInt64
  package var total: UInt32
  package var offset: UInt32
  package var bytes: ArraySlice<UInt8>

  package init(stream: UInt32, firstSeq: UInt64, total: UInt32, offset: UInt32, bytes: ArraySlice<UInt8>) {
    (self.stream, self.firstSeq, self.total) = (stream, firstSeq, total)
    (self.offset, self.bytes) = (offset, bytes)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: bytes.count + 64) {
      $0.field(stream)
      $0.field(firstSeq)
      $0.field(total)
      $0.field(offset)
      $0.field(bytes)
    }
  }
  package init(parsing input: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(input)
    stream = try r.integer()
    firstSeq = try r.integer()
    total = try r.integer()
    offset = try r.integer()
    bytes = try r.field(max: Limits.partBytesMax)
    try r.finish()
    guard Int(total) <= Limits.envelopeBytesMax + DeliverFrame.overheadBytes + 4 else { throw .tooLarge }
    guard !bytes.isEmpty, Int(offset) + bytes.count <= Int(total) else { throw .nonCanonical }
  }
}

/// `goodbye = code u16 | retry after ms u32`: the sender closes the link next.
package struct GoodbyeFrame: Equatable, Sendable {
  package var code: ErrorCode
  package var retryAfterMs: UInt32
  package init(code: ErrorCode, retryAfterMs: UInt32 = 0) {
    (self.code, self.retryAfterMs) = (code, retryAfterMs)
  }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(code.rawValue)
      $0.field(retryAfterMs)
    }
  }
  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    (code, retryAfterMs) = try parse(bytes) { (r) throws(CodecError) in
      (ErrorCode(received: try r.integer()), try r.integer())
    }
  }
}
