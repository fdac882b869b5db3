/// A token id, an index into the vocabulary: 0 ..< vocabulary size.
public typealias Token = Int32
