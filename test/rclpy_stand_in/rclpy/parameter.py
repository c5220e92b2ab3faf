import array
from enum import Enum


class Parameter:
    class Type(Enum):
        NOT_SET = 0
        BOOL = 1
        INTEGER = 2
        DOUBLE = 3
        STRING = 4
        BYTE_ARRAY = 5
        BOOL_ARRAY = 6
        INTEGER_ARRAY = 7
        DOUBLE_ARRAY = 8
        STRING_ARRAY = 9

        @classmethod
        def from_parameter_value(cls, value):
            if value is None:
                return cls.NOT_SET
            kinds = ((bool, "BOOL"), (int, "INTEGER"), (float, "DOUBLE"), (str, "STRING"))
            for kind, name in kinds:
                if isinstance(value, kind):
                    return cls[name]
            if isinstance(value, (list, tuple, array.array)):
                for kind, name in ((bytes, "BYTE"), *kinds):  # an empty list is one of bytes
                    if all(isinstance(item, kind) for item in value):
                        return cls[f"{name}_ARRAY"]
            raise TypeError(f"The given value is not one of the allowed types '{value}'.")

    def __init__(self, name, type_=None, value=None):
        actual = Parameter.Type.from_parameter_value(value)
        if type_ is not None and type_ != actual:
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self.name, self.type_, self.value = name, actual, value
