// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

namespace strata::detail {

template <class Signature>
class function_ref;

/// A function object or a function, held by reference, not owned: how a lambda passes through a virtual function without
/// being copied to the heap. Valid for the duration of the call that it is handed to.
template <class Result, class... Arguments>
class function_ref<Result(Arguments...)> {
  public:
    template <class Callable>
    requires(!std::same_as<std::remove_cvref_t<Callable>, function_ref>)
        function_ref(Callable&& callable)
    noexcept
        : object_{const_cast<void*>(reinterpret_cast<void const*>(std::addressof(callable)))},
          invoke_{[](void* object, Arguments... arguments) -> Result {
              auto& target = *reinterpret_cast<std::remove_reference_t<Callable>*>(object);
              return static_cast<Result>(target(std::forward<Arguments>(arguments)...));
          }} {}

    Result operator()(Arguments... arguments) const {
        return invoke_(object_, std::forward<Arguments>(arguments)...);
    }

  private:
    void* object_;
    Result (*invoke_)(void*, Arguments...);
};

} // namespace strata::detail
