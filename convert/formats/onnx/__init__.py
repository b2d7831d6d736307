"""Weights in ``.onnx`` files: the initializers, bit for bit, and the files beside that hold them.

:mod:`pvt_onnx.graph.build` makes the graph around the weights. Every weight's initializer has its
canonical name; the graph's own constants have a slash in theirs. Reading needs no ``onnx``. An ONNX
file is one protobuf message; of it we need (``onnx/onnx.proto``, field numbers after the names)::

    ModelProto             { GraphProto graph = 7; repeated StringStringEntryProto
                             metadata_props = 14 }
    GraphProto             { repeated TensorProto initializer = 5; repeated SparseTensorProto
                             sparse_initializer = 15 }
    TensorProto            { repeated int64 dims = 1; int32 data_type = 2; string name = 8;
                             bytes raw_data = 9; repeated StringStringEntryProto
                             external_data = 13; DataLocation data_location = 14 }
    StringStringEntryProto { string key = 1; string value = 2 }

What else decides what the graph computes (its nodes, constants, inputs and outputs, the opsets and
functions) is only hashed, as it stands in the file.

A tensor's bytes are its ``raw_data``, little-endian and in C order, or, where ``data_location`` is
1, the ``length`` bytes at ``offset`` of the file ``location`` beside the model, all three in
``external_data``. (``float_data`` and its like are other places for values, which we do not
write and do not read.) A model that holds more than 2 GiB is always of the second kind.

As fields may come in any order, a file is written as the graph, its constants and the metadata,
with the weights after them: they go from where they are (a memory-mapped checkpoint, say) to the
file without a copy of the whole.
"""
