class InvalidHandle(Exception):
    pass


class NotInitializedException(Exception):
    pass


class ParameterException(Exception):
    def __init__(self, message, parameters):
        super().__init__(f"{message}: {parameters}")


class ParameterAlreadyDeclaredException(ParameterException):
    pass


class ParameterNotDeclaredException(ParameterException):
    pass


class ParameterImmutableException(ParameterException):
    pass


class InvalidParameterTypeException(ParameterException):
    pass


class InvalidParameterValueException(ParameterException):
    pass
